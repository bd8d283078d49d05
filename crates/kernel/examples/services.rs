//! Programs many services in the namespace that it is started in, and says how long that took: what
//! `cargo xtask bench services` measures. The table stays in the kernel.
//!
//! `fill SERVICES ENDPOINTS` programs all of them; `change SERVICES ENDPOINTS COUNT` then changes endpoints, one at a
//! time; `nft SERVICES ENDPOINTS` prints the same elements as a script for nft. One line of JSON each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use zeugma_kernel::Programmer;
use zeugma_model::{Endpoint, Mode, Vips};
use zeugma_plan::nft::services::Element;
use zeugma_services::{Programmed, Situation, Workload};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> Result<u32> { Ok(words.get(at).context("a number is missing")?.parse()?) };
    let workloads = workloads(number(1)?, number(2)?)?;
    match words.first().map(String::as_str) {
        Some("fill") => println!("{}", fill(&workloads)?),
        Some("change") => println!("{}", change(workloads, number(3)?)?),
        Some("nft") => script(&workloads)?,
        _ => bail!("use: fill SERVICES ENDPOINTS | change SERVICES ENDPOINTS COUNT | nft SERVICES ENDPOINTS"),
    }
    Ok(())
}

/// Every service has port 80 of TCP and endpoints of its own.
fn workloads(services: u32, endpoints: u32) -> Result<Vec<Workload>> {
    let pattern = json!({"name": "s", "ports": [{"port": 80, "target": 8080}]});
    let pattern: zeugma_model::Service = serde_json::from_value(pattern)?;
    let workload = |number: u32| {
        let mut service = pattern.clone();
        service.name = format!("service-{number}").parse()?;
        service.mode = Mode::Vip(Vips { v4: Some(Ipv4Addr::from(0x0a60_0000 + number)), v6: None });
        let endpoints = (0..endpoints).map(|at| endpoint(number * endpoints + at)).collect::<Result<_>>()?;
        Ok(Workload { service, endpoints })
    };
    (1..=services).map(workload).collect()
}

fn endpoint(number: u32) -> Result<Endpoint> {
    let address = IpAddr::from(Ipv4Addr::from(0x0b00_0000 + number));
    Ok(Endpoint {
        address,
        node: Some(format!("n{}", number % 100).parse()?),
        weight: Default::default(),
        state: Default::default(),
    })
}

fn situation() -> Result<Situation> {
    let subnets = vec!["11.0.0.0/8".parse()?];
    let (local, inside) = (subnets.clone(), subnets);
    Ok(Situation {
        node: "n1".parse()?,
        local,
        inside,
        overlays: Vec::new(),
        direct: Vec::new(),
        ranges: Vec::new(),
    })
}

fn fill(workloads: &[Workload]) -> Result<Value> {
    let situation = situation()?;
    let (start, cpu_before) = (Instant::now(), cpu_ms()?);
    let mut programmer = Programmer::open()?;
    let mut programmed = Programmed::observed(programmer.observe()?);
    let (transactions, conflicts) = programmed.sync(workloads, &situation);
    ensure!(conflicts.is_empty(), "{conflicts:?}");
    let decided = start.elapsed();
    for changes in &transactions {
        programmer.apply(changes)?;
    }
    Ok(json!({
        "decided_ms": ms(decided), "all_ms": ms(start.elapsed()), "cpu_ms": cpu_ms()? - cpu_before, "transactions": transactions.len(),
        "elements": transactions.iter().map(|changes| changes.add.len()).sum::<usize>(), "peak_kb": peak()?,
    }))
}

/// In turn: an endpoint that takes another's place, one more, and one less.
fn change(mut workloads: Vec<Workload>, count: u32) -> Result<Value> {
    let situation = situation()?;
    let start = Instant::now();
    let mut programmer = Programmer::open()?;
    let mut programmed = Programmed::observed(programmer.observe()?);
    let (transactions, _) = programmed.sync(&workloads, &situation);
    ensure!(transactions.is_empty(), "what is programmed is not what was filled in");
    let observed = start.elapsed();
    let mut took = Vec::new();
    let all = workloads.len();
    for round in 0..count {
        let workload = &mut workloads[(round / 3) as usize * 7919 % all];
        let new = endpoint(0x00f0_0000 + round)?;
        match round % 3 {
            0 => workload.endpoints[0] = new,
            1 => workload.endpoints.push(new),
            _ => drop(workload.endpoints.remove(1)),
        }
        // As far apart as changes are; back to back they are faster.
        std::thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        let (changes, _) = programmed.update(workload, &situation);
        programmer.apply(&changes)?;
        took.push(ms(start.elapsed()));
    }
    took.sort_unstable_by(f64::total_cmp);
    let part = |percent: usize| took[(took.len() * percent).div_ceil(100).saturating_sub(1)];
    Ok(json!({"observed_ms": ms(observed), "p50_ms": part(50), "p95_ms": part(95), "peak_kb": peak()?}))
}

/// As nft writes them: numbers of kind mark are hexadecimal.
fn script(workloads: &[Workload]) -> Result<()> {
    let (transactions, _) = Programmed::default().sync(workloads, &situation()?);
    let mut by_set: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for element in transactions.iter().flat_map(|changes| &changes.add) {
        let set = element.set().name();
        let element = match element {
            Element::Service(at, slots, _, name) => {
                format!("{at} comment \"{name}\" : 0x0 . {slots:#x} . {slots:#x}")
            }
            Element::Endpoint(at, slot, to) => format!("{at} . {slot:#x} : {to}"),
            Element::Vip(address) => address.to_string(),
            Element::Hairpin(address) => format!("{address} . {address}"),
            Element::Affine(..)
            | Element::Port(..)
            | Element::Direct(_)
            | Element::Local(_)
            | Element::Inside(_)
            | Element::Overlay(_)
            | Element::Within(..)
            | Element::Range(_) => continue,
        };
        by_set.entry(set).or_default().push(element);
    }
    for (set, elements) in by_set {
        println!("add element inet zeugma_services {set} {{ {} }}", elements.join(",\n"));
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Processor time of this thread, the only one: the first number of its schedstat, in nanoseconds.
fn cpu_ms() -> Result<f64> {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat")?;
    let run: f64 = schedstat.split_whitespace().next().context("schedstat has numbers")?.parse()?;
    Ok(run / 1e6)
}

/// The most memory that this process had, in kB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel names no VmHWM")?;
    Ok(line.split_whitespace().next().context("VmHWM has a number")?.parse()?)
}
