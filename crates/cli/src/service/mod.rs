//! `zeugma service`: services as the agent has them. What a service's options mean is in `options`, what they look
//! like in `show`, and how an exchange of endpoints is followed in `exchange`.

mod exchange;
pub(crate) mod options;
pub(crate) mod show;
mod words;

pub(crate) use words::seconds;

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use zeugma_api::{SERVICE, SERVICE_ROLLBACK, SERVICES, STATUS, ServiceView, Status, Written};
use zeugma_model::{Origin, Service, ServiceName};

use crate::client::{Question, Refusal, filled};
use crate::outcome;
use crate::watch::Listing;
use options::{Options, Part, bare, without};

pub(crate) use words::label;

/// Attempts of an update that others get in the way of, such as steps of an exchange.
const ATTEMPTS: usize = 8;

/// What to do with services.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Action {
    /// Makes a service: one name and one address for many containers.
    #[command(
        after_help = "Example: zeugma service create web --network front --port 80:8080 --selector app=web"
    )]
    Create {
        /// The name; containers of its networks resolve it.
        name: ServiceName,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Lists services.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Prints all that is known of services, as a JSON list.
    Inspect {
        /// Which ones.
        #[arg(required = true)]
        names: Vec<ServiceName>,
    },
    /// Lists the endpoints of a service, and why some get no flows.
    Ps {
        /// Which service.
        name: ServiceName,
        #[command(flatten)]
        listing: Listing,
    },
    /// Says how many endpoints there are: containers are started and stopped by their runtime.
    Scale {
        /// A service and how many endpoints it is to have.
        #[arg(value_name = "NAME=COUNT")]
        wish: Wish,
    },
    /// Changes parts of a service. With another --selector its endpoints are exchanged, step by step; the command
    /// then waits, and fails when the exchange stops or goes back.
    Update(Change),
    /// Makes a service what it was before its last update.
    Rollback {
        /// Which service.
        name: ServiceName,
        /// Does not wait for the end of the exchange.
        #[arg(short, long)]
        detach: bool,
    },
    /// Removes services. What they led to goes on.
    #[command(visible_alias = "remove")]
    Rm {
        /// Which ones.
        #[arg(required = true)]
        names: Vec<ServiceName>,
    },
}

/// What is to be changed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Change {
    /// Which service.
    name: ServiceName,
    #[command(flatten)]
    options: Box<Options>,
    /// Empties parts before the options are applied.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,...")]
    clear: Vec<Part>,
    /// Does not wait for the end of the exchange.
    #[arg(short, long)]
    detach: bool,
}

/// How many endpoints somebody would like.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    name: ServiceName,
    count: usize,
}

impl FromStr for Wish {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        let (name, count) = text.split_once('=').with_context(|| format!("{text:?} is not NAME=COUNT"))?;
        let count = count.parse().with_context(|| format!("{count:?} is no number of endpoints"))?;
        Ok(Self { name: name.parse()?, count })
    }
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Create { name, options } => create(name, &options)?,
        Action::Ls(listing) => listing.print(told, |views| show::services(views))?,
        Action::Inspect { names } => return inspect(&names),
        Action::Ps { name, listing } => {
            listing.print(|after| crew(&name, after), |list| show::endpoints(list))?
        }
        Action::Scale { wish } => scale(&wish)?,
        Action::Update(update) => return self::update(&update),
        Action::Rollback { name, detach } => return rollback(&name, detach),
        Action::Rm { names } => return Ok(remove(&names)),
    }
    Ok(ExitCode::SUCCESS)
}

/// A service by name.
pub(crate) fn get(name: &ServiceName) -> Result<ServiceView> {
    Question::get(filled(SERVICE, &[name.as_str()])).answer()
}

/// All services, once something is newer.
pub(crate) fn all(after: Option<u64>) -> Result<(Vec<ServiceView>, u64)> {
    let question = Question::get(SERVICES);
    after.map_or(question.clone(), |revision| question.after(revision)).answer_at()
}

/// The same, and at first, on standard error, what does not work on this host.
fn told(after: Option<u64>) -> Result<(Vec<ServiceView>, u64)> {
    if after.is_none() {
        let status: Status = Question::get(STATUS).answer()?;
        status.problems.iter().for_each(|problem| eprintln!("zeugma: {problem}"));
    }
    all(after)
}

/// A service's endpoints.
pub(crate) fn crew(name: &ServiceName, after: Option<u64>) -> Result<(Vec<show::Endpoint>, u64)> {
    let Some(after) = after else {
        // It knows names that are like this one.
        let question = Question::get(filled(SERVICE, &[name.as_str()]));
        let (view, revision) = question.answer_at()?;
        return Ok((show::endpoints_of(vec![view]), revision));
    };
    let (mut views, revision) = all(Some(after))?;
    views.retain(|view| view.deployment.service.name == *name);
    anyhow::ensure!(!views.is_empty(), "service {name} is gone");
    Ok((show::endpoints_of(views), revision))
}

fn create(name: ServiceName, options: &Options) -> Result<()> {
    let service = options.applied(bare(name))?;
    let question = Question::put(filled(SERVICE, &[service.name.as_str()]), &service)?;
    let written: Written = question.only_new().answer()?;
    let vips: Vec<String> = written.vips.iter().map(ToString::to_string).collect();
    println!("{} {}", written.service, if vips.is_empty() { "-".into() } else { vips.join(" ") });
    tell_problems(&written);
    Ok(())
}

/// What does not work although it was written.
pub(crate) fn tell_problems(written: &Written) {
    written.problems.iter().for_each(outcome::problem);
}

/// Those that there are, and a failure when one is missing: as `docker service inspect` does.
fn inspect(names: &[ServiceName]) -> Result<ExitCode> {
    let (mut found, mut code) = (Vec::<ServiceView>::new(), ExitCode::SUCCESS);
    for name in names {
        match Question::get(filled(SERVICE, &[name.as_str()])).answer() {
            Ok(view) => found.push(view),
            Err(error) if Refusal::is_absence(&error) => {
                eprintln!("Error: {error}");
                code = ExitCode::FAILURE;
            }
            Err(error) => return Err(error),
        }
    }
    println!("{}", serde_json::to_string_pretty(&found)?);
    Ok(code)
}

fn scale(wish: &Wish) -> Result<()> {
    let (Wish { name, count }, view) = (wish, get(&wish.name)?);
    let is_container = |origin: &Origin| matches!(origin, Origin::Container(_));
    let (here, selector) = (view.endpoints.len(), &view.deployment.service.selector);
    let has = format!("{name} has {here} endpoint{}", if here == 1 { "" } else { "s" });
    let all_added = selector.is_empty() && !view.endpoints.iter().any(|one| is_container(&one.origin));
    if all_added && here == *count {
        println!("{has}, all added by hand");
        return Ok(());
    }
    if all_added {
        bail!(
            "service {has}, all added by hand: add or remove with `zeugma endpoint add {name} ADDRESS` and `zeugma endpoint rm {name} ADDRESS`"
        )
    }
    let labels: Vec<String> = selector.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
    bail!(
        "service {has}, and nothing was changed: containers belong to their runtime, so start or stop containers with the label{} {} there",
        if labels.len() == 1 { "" } else { "s" },
        labels.join(",")
    )
}

fn update(update: &Change) -> Result<ExitCode> {
    let name = &update.name;
    let mut outcome = written(update);
    for _ in 1..ATTEMPTS {
        match &outcome {
            // What they changed stays: the options are applied to it.
            Err(error) if Refusal::is_overtaken(error) => outcome = written(update),
            _ => break,
        }
    }
    let (service, written) = outcome?;
    tell_problems(&written);
    if written.unchanged && get(name)?.deployment.exchange().is_none() {
        println!("{name}: unchanged");
        return Ok(ExitCode::SUCCESS);
    }
    followed(name, update.detach, exchange::Aim::Selector(service.selector))
}

/// The options applied to the service as it is, if nobody else writes it meanwhile.
fn written(Change { name, options, clear, .. }: &Change) -> Result<(Service, Written)> {
    let before = get(name)?;
    let service = options.applied(without(before.deployment.service, clear))?;
    let question = Question::put(filled(SERVICE, &[name.as_str()]), &service)?;
    let written = question.only_at(before.revision).answer()?;
    Ok((service, written))
}

fn rollback(name: &ServiceName, detach: bool) -> Result<ExitCode> {
    let path = filled(SERVICE_ROLLBACK, &[name.as_str()]);
    let written: Written = Question::new(Method::POST, path).answer()?;
    tell_problems(&written);
    followed(name, detach, exchange::Aim::Any)
}

fn followed(name: &ServiceName, detach: bool, aim: exchange::Aim) -> Result<ExitCode> {
    if detach {
        println!("{name}");
        return Ok(ExitCode::SUCCESS);
    }
    exchange::follow(name, &aim)
}

/// All that can be; each that cannot is named.
fn remove(names: &[ServiceName]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let path = filled(SERVICE, &[name.as_str()]);
        match Question::new(Method::DELETE, path).answer::<Written>() {
            Ok(written) => {
                println!("{name}");
                tell_problems(&written);
            }
            Err(error) => {
                eprintln!("Error: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
