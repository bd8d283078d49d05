//! What a contestant can be asked to do, in its own namespaces.
//!
//! Preparation is never inside a measurement. What the figures mean is in `cni`.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use super::contestant::{Contestant, Net};
use super::measure::{Series, peak_memory, time};
use crate::cni::{self, Chain, Container};
use crate::netns;

/// Namespaces that serve as containers in turn; a deletion may go on in the kernel when DEL has returned.
const POOL: usize = 32;
/// Numbers of the containers that stay attached begin here.
const KEPT: usize = 1000;

/// A contestant and what it has standing.
pub(crate) struct Ground {
    contestant: Contestant,
    next: usize,
    kept: Vec<(Net, usize, Value)>,
    listens: bool,
}

impl Ground {
    /// With a pool of containers and a way out for masquerading.
    pub(crate) fn new(contestant: Contestant) -> Result<Self> {
        for n in 0..POOL {
            netns::ip(&format!("netns add c{n}"))?;
        }
        netns::ip("link add uplink type veth peer name peer0")?;
        netns::ip("address add 192.0.2.1/24 dev uplink")?;
        netns::ip("link set uplink up")?;
        netns::ip("link set peer0 up")?;
        Ok(Self { contestant, next: 0, kept: Vec::new(), listens: false })
    }

    /// A task by its word; the answer is an object of figures.
    pub(crate) fn run(&mut self, task: &Value) -> Result<Value> {
        let word = |at: usize| task[at].as_str().with_context(|| format!("no word {at} in {task}"));
        let number = |at: usize| task[at].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
        let net = || Net::parse(word(1)?).with_context(|| format!("no such network in {task}"));
        match word(0)? {
            "cycle" => self.cycle(net()?),
            "parallel" => self.parallel(net()?, number(2), number(3)),
            "keep" => self.keep(net()?, number(2)),
            "release" => self.release(),
            "rss" => self.rss(),
            "seed" => self.seed(number(1)),
            "lease" => self.lease(number(1)),
            "leases" => self.leases(number(1), number(2)),
            "ports" => self.ports(number(1), number(2)),
            "connect" => self.connect(number(1)),
            other => bail!("no task {other:?}"),
        }
    }

    /// One ADD and one DEL.
    fn cycle(&mut self, net: Net) -> Result<Value> {
        self.next = self.next % 900 + 1;
        let (n, container) = (self.next, pooled(self.next, "cycle"));
        let (added, add) = time(|| self.contestant.attach(net, n, &container))?;
        let ((), del) = time(|| self.contestant.detach(net, n, &container, &added))?;
        Ok(json!({ "add": Series(vec![add]).to_json(), "del": Series(vec![del]).to_json() }))
    }

    /// `total` times ADD and DEL with `flying` of them at a time.
    fn parallel(&self, net: Net, total: usize, flying: usize) -> Result<Value> {
        let failures = AtomicUsize::new(0);
        let each = |n: usize, lane: usize| {
            let container =
                Container { id: format!("parallel-{n}"), ..Container::named(&format!("c{lane}")) };
            let added = self.contestant.attach(net, n, &container);
            let detached = self.contestant.detach(net, n, &container, added.as_ref().unwrap_or(&Value::Null));
            failures
                .fetch_add(usize::from(added.is_err()) + usize::from(detached.is_err()), Ordering::Relaxed);
        };
        let per_second = in_flight(total, flying, each);
        Ok(json!({ "per_second": per_second, "failures": failures.into_inner() }))
    }

    /// Attaches that many and leaves them.
    fn keep(&mut self, net: Net, count: usize) -> Result<Value> {
        for n in KEPT..KEPT + count {
            netns::ip(&format!("netns add k{n}"))?;
            let added = self.contestant.attach(net, n, &Container::named(&format!("k{n}")))?;
            self.kept.push((net, n, added));
        }
        Ok(json!({ "kept": self.kept.len() }))
    }

    fn release(&mut self) -> Result<Value> {
        for (net, n, added) in std::mem::take(&mut self.kept) {
            self.contestant.detach(net, n, &Container::named(&format!("k{n}")), &added)?;
            netns::ip(&format!("netns delete k{n}"))?;
        }
        Ok(json!({}))
    }

    /// The most memory the process of bridge's ADD takes, in kB.
    fn rss(&self) -> Result<Value> {
        let (bin_dir, container) = (self.bin_dir()?, pooled(1, "rss"));
        let network = pool_of_addresses(bin_dir, "bridge");
        let config = network.config(&network.plugins[0], &[], &Value::Null);
        let mut command = network.command("ADD", "bridge", Some(&container));
        let kb = peak_memory(&mut command, &serde_json::to_vec(&config)?)?;
        network.call("DEL", &network.plugins[0], Some(&container), &config)?;
        Ok(json!({ "kb": kb }))
    }

    /// Leases as the reference writes them, for addresses from 10.80.1.0 on.
    fn seed(&self, count: usize) -> Result<Value> {
        let dir = Path::new("/var/lib/cni/networks").join(format!("leases-{count}"));
        std::fs::create_dir_all(&dir)?;
        for n in 256..256 + count {
            let name = format!("10.80.{}.{}", n / 256, n % 256);
            std::fs::write(dir.join(name), format!("seed-{n}\r\neth0"))?;
        }
        Ok(json!({ "seeded": count }))
    }

    /// ADD and DEL of host-local alone, in the network that [`Self::seed`] filled, and its start and end alone:
    /// no CNI_COMMAND.
    fn lease(&self, count: usize) -> Result<Value> {
        let network = pool_of_addresses(self.bin_dir()?, &format!("leases-{count}"));
        let container = pooled(2, "lease");
        let call = |verb: &str| allocator_call(&network, verb, &container);
        let ((), add) = time(|| call("ADD"))?;
        let ((), del) = time(|| call("DEL"))?;
        let mut idle = Command::new(self.bin_dir()?.join("host-local"));
        idle.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The reference ends with an error when it is asked nothing; only its time counts.
        let exec = time(|| Ok(idle.status()?))?.1;
        let [add, del, exec] = [add, del, exec].map(|sample| Series(vec![sample]).to_json());
        Ok(json!({ "add": add, "del": del, "exec": exec }))
    }

    /// The same, `total` times with 16 in flight.
    fn leases(&self, count: usize, total: usize) -> Result<Value> {
        let network = pool_of_addresses(self.bin_dir()?, &format!("leases-{count}"));
        let failures = AtomicUsize::new(0);
        let each = |n: usize, lane: usize| {
            let container = Container { id: format!("p{n}"), ..Container::named(&format!("c{lane}")) };
            for verb in ["ADD", "DEL"] {
                let failed = allocator_call(&network, verb, &container).is_err();
                failures.fetch_add(usize::from(failed), Ordering::Relaxed);
            }
        };
        let per_second = in_flight(total, 16, each);
        Ok(json!({ "per_second": per_second, "failures": failures.into_inner() }))
    }

    /// ADD of portmap alone with `count` ports on top of `standing` others.
    fn ports(&self, count: usize, standing: usize) -> Result<Value> {
        let network = port_publisher(self.bin_dir()?);
        for (batch, first) in (0..standing).step_by(500).enumerate() {
            publish(
                &network,
                "ADD",
                &pooled(batch, &format!("standing-{batch}")),
                2000 + first..2500 + first,
            )?;
        }
        let container = pooled(POOL - 1, "ports");
        let range = 20_000..20_000 + count;
        let mut adds = Series::default();
        for _ in 0..10 {
            adds.0.push(time(|| publish(&network, "ADD", &container, range.clone()))?.1);
            publish(&network, "DEL", &container, range.clone())?;
        }
        Ok(json!({ "add": adds.to_json() }))
    }

    /// Time until a published port has accepted a connection from the host, `count` times.
    fn connect(&mut self, count: usize) -> Result<Value> {
        let (n, container) = (950, pooled(POOL - 2, "connect"));
        let added = self.contestant.attach(Net::Chain, n, &container)?;
        if !std::mem::replace(&mut self.listens, true) {
            listen(&container)?;
        }
        let address = ("192.0.2.1", u16::try_from(1024 + n)?);
        let once = |_| {
            let started = Instant::now();
            TcpStream::connect(address).context("the published port does not answer")?;
            Ok(super::measure::Sample { wall_ms: started.elapsed().as_secs_f64() * 1e3, cpu_ms: 0.0 })
        };
        let series = Series((0..count).map(once).collect::<Result<_>>()?);
        self.contestant.detach(Net::Chain, n, &container, &added)?;
        Ok(json!({ "connect": series.to_json() }))
    }

    fn bin_dir(&self) -> Result<&Path> {
        match &self.contestant {
            Contestant::Cni(bin_dir) => Ok(bin_dir),
            Contestant::Netavark(_) => bail!("netavark has no such executable"),
        }
    }
}

fn pooled(n: usize, id: &str) -> Container {
    Container { id: format!("{id}-{n}"), ..Container::named(&format!("c{}", n % POOL)) }
}

/// Calls `each(number, lane)` from as many threads as `flying`; how many a second.
fn in_flight(total: usize, flying: usize, each: impl Fn(usize, usize) + Sync) -> f64 {
    let next = AtomicUsize::new(1);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for lane in 0..flying {
            let (next, each) = (&next, &each);
            scope.spawn(move || {
                // Two namespaces in turn: the deletion in the one before may still go on in the kernel.
                let mut turn = 0;
                while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n <= total) {
                    each(n, lane + flying * turn);
                    turn = 1 - turn;
                }
            });
        }
    });
    f64::from(u32::try_from(total).unwrap_or(u32::MAX)) / started.elapsed().as_secs_f64()
}

/// A network of 65,000 addresses; with type bridge for the memory of an ADD.
fn pool_of_addresses(bin_dir: &Path, name: &str) -> Chain {
    let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.80.0.0/16", "rangeStart": "10.80.0.2" }]] });
    let plugin = json!({ "type": "bridge", "bridge": "bench1", "isGateway": true, "ipam": ipam });
    Chain { bin_dir: bin_dir.to_owned(), version: "1.0.0", name: name.to_owned(), plugins: vec![plugin] }
}

fn allocator_call(network: &Chain, verb: &str, container: &Container) -> Result<()> {
    let config = network.config(&network.plugins[0], &[], &Value::Null);
    network.call(verb, &json!({ "type": "host-local" }), Some(container), &config).map(drop)
}

fn port_publisher(bin_dir: &Path) -> Chain {
    let plugin = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    Chain { bin_dir: bin_dir.to_owned(), version: "1.0.0", name: "ports".to_owned(), plugins: vec![plugin] }
}

/// portmap by itself, on an address that a bridge would have given.
fn publish(network: &Chain, verb: &str, container: &Container, ports: std::ops::Range<usize>) -> Result<()> {
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "sandbox": container.netns }],
        "ips": [{ "address": "10.70.0.2/16", "gateway": "10.70.0.1", "interface": 0 }],
    });
    let ports: Vec<_> = ports.filter_map(|port| Some(cni::port(u32::try_from(port).ok()?, 80))).collect();
    let config = network.config(&network.plugins[0], &ports, &previous);
    network.call(verb, &network.plugins[0], Some(container), &config).map(drop)
}

/// A server on port 80 inside the container, for as long as this process lives.
fn listen(container: &Container) -> Result<()> {
    let netns = File::open(&container.netns)?;
    let server = std::thread::spawn(move || -> Result<TcpListener> {
        // Only this thread goes there, and it ends with the socket made.
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Ok(TcpListener::bind(("0.0.0.0", 80))?)
    });
    let listener = server.join().map_err(|_| anyhow::anyhow!("the server's thread panicked"))??;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}
