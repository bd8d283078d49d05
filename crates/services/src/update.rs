//! A service is to be another: what the catalogue writes of it, with the exchange of endpoints that begins.
//!
//! The steps of the exchange are not taken here: `roster` says when, to the node that drives it.

use std::num::NonZeroU32;

use zeugma_model::{
    Deployment, Mode, NodeName, Overtaken, Rollout, RolloutState, Selector, Service, ServiceName, Vips,
};

/// Exchanges that may be overtaken one after another before one is forgotten.
const MOST_OVERTAKEN: usize = 8;

/// Why a service cannot go back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// There is no earlier one.
    #[error(
        "service {0} has nothing to return to: it was not updated since it was created or last rolled back; \
         say what it is to be with `zeugma service update`"
    )]
    NothingToReturnTo(ServiceName),
}

/// The deployment after an update: virtual addresses stay unless others are named, another selector begins an exchange
/// of endpoints that `driver` drives, everything else is so at once. Equal services change nothing, but an exchange
/// that paused goes on.
///
/// An update that comes before the last exchange is over begins where that one stands; what a rollback returns to
/// stays the service before both.
pub fn updated(deployment: &Deployment, to: Service, driver: &NodeName) -> Deployment {
    let to = with_addresses(to, &deployment.service);
    let previous = match deployment.exchange() {
        _ if to == deployment.service => deployment.previous.clone(),
        Some(_) if deployment.previous.is_some() => deployment.previous.clone(),
        _ => Some(Box::new(deployment.service.clone())),
    };
    let rollout = match deployment.exchange() {
        _ if to.selector != deployment.service.selector => {
            begun(deployment, &to.selector, driver, RolloutState::Running)
        }
        None if to == deployment.service => deployment.rollout.clone(),
        exchange => exchange.map(|rollout| resumed(rollout, driver)),
    };
    Deployment { service: to, previous, rollout }
}

/// The same for who says what is to be and not that anything is to happen: an equal service changes nothing at all. A
/// file that is applied again, by every node and every hour, neither resumes what paused nor takes over who drives.
pub fn applied(deployment: &Deployment, to: Service, driver: &NodeName) -> Deployment {
    match with_addresses(to.clone(), &deployment.service) == deployment.service {
        true => deployment.clone(),
        false => updated(deployment, to, driver),
    }
}

/// The deployment after a rollback: the service as it was before its last update, endpoints exchanged step by step.
///
/// # Errors
/// When there is nothing to return to; a rollback is not undone by another one.
pub fn rolled_back(deployment: &Deployment, driver: &NodeName) -> Result<Deployment, UpdateError> {
    returning(deployment, driver, RolloutState::Running)
        .ok_or_else(|| UpdateError::NothingToReturnTo(deployment.service.name.clone()))
}

/// The same with a reason that stays; none when there is nothing to return to.
pub(crate) fn returning(
    deployment: &Deployment,
    driver: &NodeName,
    state: RolloutState,
) -> Option<Deployment> {
    let to = with_addresses(deployment.previous.as_deref()?.clone(), &deployment.service);
    let rollout = match deployment.exchange() {
        exchange if to.selector == deployment.service.selector => {
            exchange.map(|rollout| resumed(rollout, driver))
        }
        _ => begun(deployment, &to.selector, driver, state),
    };
    Some(Deployment { service: to, previous: None, rollout })
}

/// An exchange from who serves now; none when nobody is to be exchanged.
fn begun(deployment: &Deployment, to: &Selector, driver: &NodeName, state: RolloutState) -> Option<Rollout> {
    let now = &deployment.service.selector;
    let (from, mut through) = match deployment.exchange() {
        None => (now.clone(), Vec::new()),
        Some(rollout) => (rollout.from.clone(), rollout.through.clone()),
    };
    if let Some(rollout) = deployment.exchange().filter(|rollout| !rollout.reach.is_nobody()) {
        through.push(Overtaken { to: now.clone(), reach: rollout.reach });
    }
    if through.len() > MOST_OVERTAKEN {
        // `from` is the last set that served as a whole: it stays, the first that was overtaken goes.
        through.remove(0);
    }
    let is_exchange = !to.is_empty() && !(through.is_empty() && (from.is_empty() || from == *to));
    let (driver, step) = (driver.clone(), NonZeroU32::MIN);
    is_exchange.then(|| Rollout { from, through, driver, step, reach: Default::default(), state })
}

/// Goes on, driven by whoever was asked last: the driver before may be no more.
fn resumed(rollout: &Rollout, driver: &NodeName) -> Rollout {
    let state = match &rollout.state {
        RolloutState::Returning(why) => RolloutState::Returning(why.clone()),
        _ => RolloutState::Running,
    };
    Rollout { driver: driver.clone(), state, ..rollout.clone() }
}

fn with_addresses(mut to: Service, before: &Service) -> Service {
    if let (Mode::Vip(had), Mode::Vip(named)) = (before.mode, to.mode) {
        to.mode = Mode::Vip(Vips { v4: named.v4.or(had.v4), v6: named.v6.or(had.v6) });
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use zeugma_model::Reach;

    fn service(app: &str) -> Service {
        serde_json::from_value(json!({"name": "web", "ports": [{"port": 80}], "selector": {"app": app}}))
            .unwrap()
    }

    fn created() -> Deployment {
        let mut service = service("a");
        service.mode = Mode::Vip(Vips { v4: "10.96.0.1".parse().ok(), v6: None });
        Deployment { service, previous: None, rollout: None }
    }

    fn driver() -> NodeName {
        "n1".parse().unwrap()
    }

    fn rollout(deployment: &Deployment) -> &Rollout {
        deployment.rollout.as_ref().unwrap()
    }

    fn reached(deployment: &mut Deployment) {
        let mut reach = Reach::default();
        reach.joined.extend("10.88.0.9".parse().unwrap());
        deployment.rollout.as_mut().unwrap().reach = reach;
    }

    #[test]
    fn another_selector_begins_an_exchange_and_keeps_the_addresses() {
        let after = updated(&created(), service("b"), &driver());
        assert_eq!(
            (after.service.mode, &after.service.selector),
            (created().service.mode, &service("b").selector)
        );
        assert_eq!(after.previous.as_deref(), Some(&created().service));
        assert_eq!((&rollout(&after).from, rollout(&after).step.get()), (&service("a").selector, 1));
    }

    #[test]
    fn other_changes_are_so_at_once() {
        let after = updated(&created(), Service { drain_seconds: 9, ..service("a") }, &driver());
        assert_eq!((after.service.drain_seconds, &after.rollout), (9, &None));
        assert_eq!(updated(&after, after.service.clone(), &driver()), after, "no change is none");
        let returned = rolled_back(&after, &driver()).unwrap();
        assert_eq!(returned, created());
    }

    #[test]
    fn a_paused_exchange_goes_on_when_it_is_asked_for_again() {
        let mut paused = updated(&created(), service("b"), &driver());
        paused.rollout.as_mut().unwrap().state = RolloutState::Paused("ill".into());
        let after = updated(&paused, service("b"), &"n2".parse().unwrap());
        assert_eq!((&rollout(&after).state, rollout(&after).driver.as_str()), (&RolloutState::Running, "n2"));
        assert_eq!(after.previous, paused.previous);
    }

    #[test]
    fn what_is_applied_again_changes_nothing_of_an_exchange() {
        let mut paused = updated(&created(), service("b"), &driver());
        let other = "n2".parse().unwrap();
        assert_eq!(applied(&paused, service("b"), &other), paused, "the driver stays");
        paused.rollout.as_mut().unwrap().state = RolloutState::Paused("ill".into());
        assert_eq!(applied(&paused, service("b"), &other), paused);
        assert_eq!(applied(&paused, service("c"), &other), updated(&paused, service("c"), &other));
    }

    #[test]
    fn an_update_of_an_unfinished_update_begins_where_that_stands() {
        let mut half = updated(&created(), service("b"), &driver());
        assert_eq!(updated(&half, service("a"), &driver()).rollout, None, "nobody was exchanged");
        reached(&mut half);
        let after = updated(&half, service("c"), &driver());
        assert_eq!(after.previous.as_deref(), Some(&created().service), "the last whole set");
        assert_eq!((&rollout(&after).from, rollout(&after).through.len()), (&service("a").selector, 1));
        assert_eq!(rollout(&after).through[0].to, service("b").selector);
    }

    #[test]
    fn overtaken_updates_are_not_gathered_for_ever() {
        let mut deployment = created();
        for number in 0..20 {
            deployment = updated(&deployment, service(&format!("b{number}")), &driver());
            reached(&mut deployment);
        }
        assert_eq!(rollout(&deployment).through.len(), MOST_OVERTAKEN);
        assert_eq!(rollout(&deployment).from, service("a").selector);
    }

    #[test]
    fn a_rollback_goes_back_once_and_then_says_what_to_do() {
        let mut half = updated(&created(), service("b"), &driver());
        reached(&mut half);
        let back = rolled_back(&half, &driver()).unwrap();
        assert_eq!((&back.service, &back.previous), (&created().service, &None));
        assert_eq!(rollout(&back).through[0].to, service("b").selector);
        let error = rolled_back(&back, &driver()).unwrap_err().to_string();
        assert!(error.contains("nothing to return to") && error.contains("service update"), "{error}");
        let again = updated(&back, service("c"), &driver());
        assert_eq!(again.previous.as_deref(), Some(&created().service));
    }
}
