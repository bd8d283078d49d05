//! `zeugma endpoint`: endpoints that are no containers. Containers serve by their labels, and come and go by themselves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use clap::{Args, Subcommand};
use hyper::Method;
use zeugma_api::{NewEndpoint, Removed, SERVICE_ENDPOINT, SERVICE_ENDPOINT_DRAIN, Written};
use zeugma_model::{EndpointState, NodeName, ServiceName, Weight};

use crate::client::{Question, filled};
use crate::service::{all, crew, label, show, tell_problems};
use crate::watch::Listing;

/// What to do with endpoints.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Action {
    /// Adds something with an address to a service, or changes it.
    Add(Add),
    /// Removes an endpoint that was added, once its flows have drained.
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        which: Which,
        /// Does not let it drain.
        #[arg(long)]
        now: bool,
    },
    /// Gives an endpoint that was added no new flows; `add` takes it back.
    Drain(Which),
    /// Lists endpoints.
    #[command(visible_alias = "list")]
    Ls {
        /// Of this service; without it, of all.
        service: Option<ServiceName>,
        #[command(flatten)]
        listing: Listing,
    },
}

/// One endpoint.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The service that it serves.
    service: ServiceName,
    /// Its address.
    address: IpAddr,
}

/// An endpoint to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    which: Which,
    /// Its part of the flows beside the others': 1 to 1000.
    #[arg(long, default_value = "1", value_parser = weight)]
    weight: Weight,
    /// The node that it runs on; none for what is outside.
    #[arg(long)]
    node: Option<NodeName>,
    /// A label: with any, it serves only when the service's selector matches. May be given several times.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<()> {
    match action {
        Action::Add(add) => added(add),
        Action::Rm { which, now } => removed(&which, now),
        Action::Drain(which) => {
            let question = Question::new(Method::POST, which.path(SERVICE_ENDPOINT_DRAIN));
            told(&which, "drains", &question.answer()?);
            Ok(())
        }
        Action::Ls { service: Some(name), listing } => {
            listing.print(|after| crew(&name, after), |list| show::endpoints(list))
        }
        Action::Ls { service: None, listing } => {
            let listed = |after| all(after).map(|(views, revision)| (show::endpoints_of(views), revision));
            listing.print(listed, |list| show::endpoints(list))
        }
    }
}

fn weight(word: &str) -> Result<Weight> {
    let number: u16 = word.parse().map_err(|_| anyhow::anyhow!("{word:?} is no weight: take 1 to 1000"))?;
    Ok(number.try_into()?)
}

impl Which {
    fn path(&self, of: &str) -> String {
        filled(of, &[self.service.as_str(), &self.address.to_canonical().to_string()])
    }
}

fn added(Add { which, weight, node, labels }: Add) -> Result<()> {
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    let endpoint = NewEndpoint { node, weight, labels, state: EndpointState::Ready };
    let written: Written = Question::put(which.path(SERVICE_ENDPOINT), &endpoint)?.answer()?;
    told(&which, if written.unchanged { "is there already" } else { "added" }, &written);
    Ok(())
}

fn removed(which: &Which, now: bool) -> Result<()> {
    let path = which.path(SERVICE_ENDPOINT) + if now { "?now=true" } else { "" };
    let removed: Removed = Question::new(Method::DELETE, path).answer()?;
    let Which { service, address } = which;
    match removed.drains_seconds {
        0 => println!("{service}/{address} removed"),
        seconds => println!("{service}/{address} drains for {seconds} s, then it is removed"),
    }
    Ok(())
}

fn told(which: &Which, what: &str, written: &Written) {
    println!("{}/{} {what}", which.service, which.address);
    tell_problems(written);
}
