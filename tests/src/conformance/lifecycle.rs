//! Promises of the verbs: ADD, CHECK, DEL in every disorder, GC, STATUS, and nothing left behind.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, CniError, Residue, eventually};
use serde_json::{Value, json};

use super::rig::{Plugin, Rig, VERSION, address, with};
use super::{Kept, Promise};

/// Those that lease addresses and can have several containers: a VLAN of an interface is one container's.
const SEVERAL: &[Plugin] = &[
    Plugin::Bridge,
    Plugin::Overlay,
    Plugin::Ptp,
    Plugin::Macvlan,
    Plugin::Ipvlan,
    Plugin::Dummy,
    Plugin::Tap,
    Plugin::HostDevice,
    Plugin::HostLocal,
];
const PARALLEL: &[Plugin] = &[
    Plugin::Bridge,
    Plugin::Overlay,
    Plugin::Ptp,
    Plugin::Macvlan,
    Plugin::Ipvlan,
    Plugin::Dummy,
    Plugin::Tap,
    Plugin::Portmap,
    Plugin::Firewall,
    Plugin::Tuning,
    Plugin::Bandwidth,
    Plugin::Sbr,
    Plugin::Vrf,
    Plugin::Resolver,
    Plugin::HostLocal,
    Plugin::Dhcp,
];

pub(super) const PROMISES: &[Promise] = &[
    Promise { name: "ADD, CHECK, DEL", plugins: Plugin::ALL, test: add_check_del },
    Promise { name: "DEL twice", plugins: Plugin::ALL, test: del_twice },
    Promise { name: "DEL of what was never added", plugins: Plugin::ALL, test: del_of_nothing },
    Promise { name: "DEL after the namespace is gone", plugins: Plugin::ALL, test: del_after_namespace },
    Promise { name: "DEL with empty CNI_NETNS", plugins: Plugin::ALL, test: del_with_empty_netns },
    Promise { name: "DEL without prevResult", plugins: Plugin::ALL, test: del_without_previous },
    Promise { name: "ADD and DEL leave no residue", plugins: Plugin::ALL, test: no_residue },
    Promise { name: "no residue: namespace gone", plugins: Plugin::ALL, test: no_residue_after_namespace },
    Promise {
        name: "no residue: DEL without prevResult",
        plugins: Plugin::ALL,
        test: no_residue_without_previous,
    },
    Promise {
        name: "existing ifname: refused, nothing changed",
        plugins: Plugin::INTERFACES,
        test: existing_ifname,
    },
    Promise { name: "failing IPAM leaves no link", plugins: Plugin::INTERFACES, test: failing_ipam },
    Promise { name: "parallel ADDs: all succeed, addresses distinct", plugins: PARALLEL, test: parallel },
    Promise { name: "parallel ADDs on a host in use", plugins: PARALLEL, test: parallel_in_use },
    Promise { name: "GC frees what is not listed, keeps what is", plugins: SEVERAL, test: garbage },
    Promise { name: "GC without attachments succeeds", plugins: Plugin::ALL, test: garbage_of_nothing },
    Promise { name: "STATUS: ready, nothing on stdout", plugins: Plugin::ALL, test: status },
    Promise { name: "STATUS 50: no address left", plugins: Plugin::LEASING, test: status_of_full_pool },
];

/// After an ADD that can be seen to have done something: without that, all the DELs would prove nothing.
fn attached(rig: &Rig<'_>) -> Result<(Chain, Attachment)> {
    let (chain, container) = (rig.chain()?, rig.container()?);
    let result = chain.add(&rig.host, &container).context("ADD")?;
    ensure!(result["cniVersion"] == VERSION, "ADD returned no result: {result}");
    ensure!(is_present(rig, &chain, &container)?, "ADD returned {result}, but nothing came of it");
    Ok((chain, container))
}

/// Whether what ADD makes is there; static makes nothing.
fn is_present(rig: &Rig<'_>, chain: &Chain, container: &Attachment) -> Result<bool> {
    Ok(match rig.plugin {
        Plugin::Static => true,
        Plugin::HostLocal => !rig.leases(chain).is_empty(),
        Plugin::Dhcp => rig.dhcp.as_ref().is_some_and(|network| network.has_leased(container)),
        _ => {
            let links = container.container().ip_json("link show up")?;
            let mut links = links.as_array().into_iter().flatten();
            links.any(|link| link["ifname"] == container.ifname())
        }
    })
}

fn add_check_del(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = attached(rig)?;
    chain.check(&rig.host, &container).context("CHECK")?;
    chain.del(&rig.host, &container).context("DEL")?;
    let gone = || !is_present(rig, &chain, &container).unwrap_or(true);
    let undone = rig.plugin == Plugin::Static || eventually(Duration::from_secs(2), gone);
    ensure!(undone, "DEL returned, but what ADD made is still there");
    Ok(Kept::Yes)
}

fn del_twice(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = attached(rig)?;
    chain.del(&rig.host, &container).context("first DEL")?;
    chain.del(&rig.host, &container).context("second DEL")?;
    Ok(Kept::Yes)
}

fn del_of_nothing(rig: &Rig<'_>) -> Result<Kept> {
    rig.chain()?.del(&rig.host, &rig.container()?)?;
    Ok(Kept::Yes)
}

fn del_after_namespace(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = attached(rig)?;
    container.container().remove()?;
    chain.del(&rig.host, &container)?;
    ensure!(rig.leases(&chain).is_empty(), "leases are left: {:?}", rig.leases(&chain));
    Ok(Kept::Yes)
}

fn del_with_empty_netns(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = attached(rig)?;
    container.container().remove()?;
    chain.del(&rig.host, &container.without_netns())?;
    ensure!(rig.leases(&chain).is_empty(), "leases are left: {:?}", rig.leases(&chain));
    Ok(Kept::Yes)
}

fn del_without_previous(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = attached(rig)?;
    chain.forget(&rig.host, &container);
    chain.del(&rig.host, &container)?;
    ensure!(rig.leases(&chain).is_empty(), "leases are left: {:?}", rig.leases(&chain));
    Ok(Kept::Yes)
}

/// The host's state, with the files that plugins keep.
fn stock(rig: &Rig<'_>) -> Result<Residue> {
    Ok(rig.host.residue()?.with_files(rig.host.run_dir()))
}

/// Shared objects (bridge, tables) stay after the first DEL by design, so a first round makes them.
fn leaves_nothing(rig: &Rig<'_>, del: impl Fn(&Chain, &Attachment) -> Result<()>) -> Result<Kept> {
    let (chain, first) = attached(rig)?;
    chain.del(&rig.host, &first).context("first DEL")?;
    let before = stock(rig)?;
    let second = rig.container()?;
    chain.add(&rig.host, &second).context("second ADD")?;
    del(&chain, &second)?;
    ensure_as_before(rig, &before)?;
    Ok(Kept::Yes)
}

/// Links and namespaces may end a moment after the call that removed them.
fn ensure_as_before(rig: &Rig<'_>, before: &Residue) -> Result<()> {
    let mut diff = String::new();
    let clean = eventually(Duration::from_secs(2), || {
        diff = stock(rig).map_or_else(|error| error.to_string(), |after| before.diff(&after));
        diff.is_empty()
    });
    ensure!(clean, "the host is not as before:\n{diff}");
    Ok(())
}

fn no_residue(rig: &Rig<'_>) -> Result<Kept> {
    leaves_nothing(rig, |chain, container| chain.del(&rig.host, container))
}

fn no_residue_after_namespace(rig: &Rig<'_>) -> Result<Kept> {
    if rig.plugin == Plugin::HostDevice {
        return Ok(Kept::NotClaimed("a virtual device ends with its namespace; only hardware comes back"));
    }
    leaves_nothing(rig, |chain, container| {
        container.container().remove()?;
        chain.del(&rig.host, container)
    })
}

fn no_residue_without_previous(rig: &Rig<'_>) -> Result<Kept> {
    leaves_nothing(rig, |chain, container| {
        chain.forget(&rig.host, container);
        chain.del(&rig.host, container)
    })
}

fn existing_ifname(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, first) = attached(rig)?;
    chain.del(&rig.host, &first)?;
    let container = rig.container()?;
    container.container().ip("link add eth0 type bridge")?;
    let (before, inside) = (stock(rig)?, container.container().residue()?);
    ensure!(chain.add(&rig.host, &container).is_err(), "ADD over an existing eth0 succeeded");
    ensure_as_before(rig, &before)?;
    container.container().ensure_unchanged(&inside)?;
    Ok(Kept::Yes)
}

/// A pool of one address, which somebody has.
fn full_pool(rig: &Rig<'_>, version: &str) -> Result<Chain> {
    let pool = json!({
        "type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.9", "rangeEnd": "10.88.0.9"}]],
    });
    let taker = rig.chain_of(version, with(rig.other_config(), "ipam", pool.clone()))?;
    taker.add(&rig.host, &rig.container()?).context("ADD of the only address")?;
    rig.chain_of(version, with(rig.config(), "ipam", pool))
}

fn failing_ipam(rig: &Rig<'_>) -> Result<Kept> {
    let chain = full_pool(rig, VERSION)?;
    let container = rig.container()?;
    let (before, inside) = (stock(rig)?, container.container().residue()?);
    ensure!(chain.add(&rig.host, &container).is_err(), "ADD with a full pool succeeded");
    ensure_as_before(rig, &before)?;
    container.container().ensure_unchanged(&inside)?;
    Ok(Kept::Yes)
}

fn parallel(rig: &Rig<'_>) -> Result<Kept> {
    const TOGETHER: usize = 8;
    let chain = rig.chain()?;
    let containers = (0..TOGETHER).map(|_| rig.container()).collect::<Result<Vec<_>>>()?;
    let each = |verb: &(dyn Fn(&Attachment) -> Result<Value> + Sync)| -> Result<Vec<Value>> {
        thread::scope(|scope| {
            let threads: Vec<_> =
                containers.iter().map(|container| scope.spawn(move || verb(container))).collect();
            threads.into_iter().map(|thread| thread.join().expect("the verbs do not panic")).collect()
        })
    };
    let results = each(&|container| chain.add(&rig.host, container)).context("parallel ADD")?;
    let addresses = results.iter().map(address).collect::<Result<BTreeSet<_>>>()?;
    ensure!(addresses.len() == TOGETHER, "addresses were given twice: {addresses:?}");
    each(&|container| chain.del(&rig.host, container).map(|()| Value::Null)).context("parallel DEL")?;
    ensure!(rig.leases(&chain).is_empty(), "leases are left: {:?}", rig.leases(&chain));
    Ok(Kept::Yes)
}

fn parallel_in_use(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, first) = attached(rig)?;
    chain.del(&rig.host, &first).context("first DEL")?;
    parallel(rig)
}

const SINCE_1_1: Kept = Kept::NotClaimed("does not speak 1.1.0");

fn garbage(rig: &Rig<'_>) -> Result<Kept> {
    if !rig.speaks("1.1.0") {
        return Ok(SINCE_1_1);
    }
    let chain = rig.chain_of("1.1.0", rig.config())?;
    let (lost, kept) = (rig.container()?, rig.container()?);
    rig.chain_of("1.1.0", rig.other_config())?.add(&rig.host, &lost)?;
    let held = address(&chain.add(&rig.host, &kept)?)?;
    chain.gc(&rig.host, &[&kept]).context("GC")?;
    ensure!(rig.leases(&chain) == [held.clone()], "want only {held}, leases are {:?}", rig.leases(&chain));
    chain.check(&rig.host, &kept).context("CHECK of the one that was listed")?;
    chain.gc(&rig.host, &[&kept]).context("second GC")?;
    Ok(Kept::Yes)
}

fn garbage_of_nothing(rig: &Rig<'_>) -> Result<Kept> {
    if !rig.speaks("1.1.0") {
        return Ok(SINCE_1_1);
    }
    rig.chain_of("1.1.0", rig.config())?.gc(&rig.host, &[])?;
    Ok(Kept::Yes)
}

fn status(rig: &Rig<'_>) -> Result<Kept> {
    if !rig.speaks("1.1.0") {
        return Ok(SINCE_1_1);
    }
    let container = rig.container()?;
    let call = rig.call_after("STATUS", &container, "1.1.0", &Value::Null);
    let call = call.without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME").without("CNI_ARGS");
    let outcome = call.output(&rig.host)?;
    ensure!(outcome.finished.status.success(), "{}", outcome.error());
    ensure!(outcome.finished.stdout.trim().is_empty(), "stdout is not empty: {}", outcome.finished.stdout);
    Ok(Kept::Yes)
}

fn status_of_full_pool(rig: &Rig<'_>) -> Result<Kept> {
    if !rig.speaks("1.1.0") {
        return Ok(SINCE_1_1);
    }
    let chain = full_pool(rig, "1.1.0")?;
    let error =
        chain.status(&rig.host).err().context("STATUS of a full pool succeeded")?.downcast::<CniError>()?;
    ensure!(error.code == 50, "want code 50, got: {error}");
    Ok(Kept::Yes)
}
