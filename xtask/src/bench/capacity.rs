//! Rows about how much is there already: leases on disk, published ports.
//!
//! What is asked for and by whom is as in `cni`; only these rows need ground that is prepared first.

use anyhow::Result;
use serde_json::json;

use super::cni::{asked, ratio, row, tell, timed};
use super::measure::Series;
use super::report::{Cell, Goal, Row};
use super::worker::Worker;

/// Leases of a full node's network.
const MANY_LEASES: usize = 60_000;

/// host-local alone: with few leases, with many, and with 16 in flight.
pub(super) fn leases(workers: &mut [Worker], rounds: usize) -> Vec<Row> {
    let few =
        [("lease_add_10", "host-local ADD at 10 leases"), ("lease_del_10", "host-local DEL at 10 leases")];
    let many = [
        ("lease_add_60000", "host-local ADD at 60,000 leases"),
        ("lease_del_60000", "host-local DEL at 60,000 leases"),
    ];
    let mut rows = Vec::from(lease_latency(workers, rounds, 10, few));
    rows.extend(lease_latency(workers, rounds, MANY_LEASES, many));
    rows.push(lease_rate(workers));
    rows
}

/// ADD and DEL, without the time that the executable takes to start and end.
fn lease_latency(
    workers: &mut [Worker],
    rounds: usize,
    leases: usize,
    [add_row, del_row]: [(&'static str, &'static str); 2],
) -> [Row; 2] {
    for worker in workers.iter_mut() {
        tell(worker, &json!(["seed", leases]));
        // The first call may write an index; what a node pays every time is what comes after.
        tell(worker, &json!(["lease", leases]));
    }
    let [add, del, exec] = asked(workers, rounds, &json!(["lease", leases]), ["add", "del", "exec"]);
    let goal = Goal::AtMost(0.5);
    [
        row(add_row.0, add_row.1, "ms over exec", goal, over(&add, &exec)),
        row(del_row.0, del_row.1, "ms over exec", goal, over(&del, &exec)),
    ]
}

fn lease_rate(workers: &mut [Worker]) -> Row {
    // The reference does 4 a second here: a short run is enough for it.
    let totals = [1000, 8];
    let rate = |(worker, total): (&mut Worker, usize)| {
        Cell::bare(tell(worker, &json!(["leases", MANY_LEASES, total]))["per_second"].as_f64())
    };
    let rates = workers.iter_mut().zip(totals).map(rate).collect();
    let title = "16 in flight: host-local ADD and DEL at 60,000";
    row("lease_parallel", title, "/s", Goal::AtLeast(1000.0), rates)
}

/// Ours alone, `idle` and another of the same: the reference would take minutes to have 10,000 mappings.
pub(super) fn ports(idle: &mut Worker, (title, word): &(String, String)) -> Result<Vec<Row>> {
    let mut loaded = Worker::start(title, word)?;
    let mut add = Series::default();
    add.extend_from_json(&tell(&mut loaded, &json!(["ports", 206, 10_000]))["add"]);
    let (mut few, mut many) = (Series::default(), Series::default());
    for _ in 0..5 {
        few.extend_from_json(&tell(idle, &json!(["connect", 100]))["connect"]);
        many.extend_from_json(&tell(&mut loaded, &json!(["connect", 100]))["connect"]);
    }
    let connect = "connect() through a published port with 10,000 mappings, against 1";
    Ok(vec![
        timed("ports_206", "portmap ADD of 206 ports on top of 10,000", 20.0, &[add]),
        row("connect_10000", connect, "x", Goal::AtMost(1.15), vec![ratio(&many, &few)]),
    ])
}

fn over(series: &[Series], baseline: &[Series]) -> Vec<Cell> {
    let less = |(series, baseline): (&Series, &Series)| {
        Cell::bare(series.median().zip(baseline.median()).map(|(all, exec)| all - exec))
    };
    series.iter().zip(baseline).map(less).collect()
}
