//! Any order of ADD, DEL, GC and kill -9 leaves nothing behind. `ZEUGMA_RANDOM_STEPS` and
//! `ZEUGMA_RANDOM_SEED` choose how much and which; a failure prints the seed.

use std::env;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, HostCommand, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, bridge, command, firewall, network, object, portmap, with};

const SLOTS: usize = 8;
const STEPS: u64 = 1000;
const SEED: u64 = 20260101;

/// SplitMix64: every seed gives another, and always the same, sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn plugins(number: u8) -> Vec<Value> {
    vec![
        with(bridge(number), json!({"macspoofchk": true})),
        portmap(),
        firewall(if number == 0 { "isolated" } else { "same-bridge" }),
        json!({"type": "tuning", "mtu": 1400}),
        json!({"type": "resolver", "mode": if number == 0 { "container" } else { "gateway" }}),
    ]
}

/// What became of the last container in a slot.
enum Slot {
    Empty,
    Attached(Attachment),
    /// A verb was killed.
    Unclear(Attachment),
}

struct Story<'a> {
    stage: Stage<'a>,
    chains: [Chain; 2],
    slots: Vec<Slot>,
    random: Random,
}

impl Story<'_> {
    fn chain(&self, slot: usize) -> &Chain {
        &self.chains[slot % 2]
    }

    fn step(&mut self) -> Result<String> {
        let slot = self.random.below(SLOTS as u64) as usize;
        let action = self.random.below(20);
        let taken = std::mem::replace(&mut self.slots[slot], Slot::Empty);
        let (said, now) = match (taken, action) {
            (was, 0) => {
                self.slots[slot] = was;
                return self.collect(slot % 2);
            }
            (Slot::Empty, 1..=5) => ("ADD killed", Slot::Unclear(self.add_killed(slot)?)),
            (Slot::Empty, _) => ("ADD", Slot::Attached(self.add(slot)?)),
            (Slot::Attached(it), 1..=4) => ("DEL killed", Slot::Unclear(self.del_killed(slot, it)?)),
            (Slot::Attached(it) | Slot::Unclear(it), 5..=8) => {
                ("DEL without result", self.del_forgetful(slot, &it)?)
            }
            (Slot::Attached(it) | Slot::Unclear(it), 9..=11) => {
                ("DEL without namespace", self.del_dead(slot, it)?)
            }
            (Slot::Attached(it) | Slot::Unclear(it), _) => ("DEL", self.del(slot, &it)?),
        };
        self.slots[slot] = now;
        Ok(format!("{said} {slot}"))
    }

    fn fresh(&self, slot: usize) -> Result<Attachment> {
        let port = 8080 + slot;
        self.stage.publishing(&[&format!("{port}:80"), &format!("{port}:80/udp")])
    }

    fn add(&mut self, slot: usize) -> Result<Attachment> {
        let container = self.fresh(slot)?;
        self.chain(slot).add(&self.stage.host, &container)?;
        let to = format!("192.0.2.1:{}", 8080 + slot);
        self.stage.client.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", to)?))?;
        Ok(container)
    }

    /// A verb of one plugin: the one at `at` in the slot's chain.
    fn one(&self, (slot, at): (usize, usize), verb: &str, of: &Attachment, previous: &Value) -> HostCommand {
        let plugins = plugins((slot % 2) as u8);
        let config =
            self.chain(slot).config(&self.stage.host, &object(&plugins[at]), Some(of), Some(previous));
        command(&self.stage.host, &[], verb, Some(of), &config)
    }

    fn moment(&mut self) -> Duration {
        Duration::from_micros(500 + self.random.below(15_000))
    }

    /// ADD of some plugins, the last of them killed (unless it was faster).
    fn add_killed(&mut self, slot: usize) -> Result<Attachment> {
        let (container, last) = (self.fresh(slot)?, self.random.below(4) as usize);
        let mut previous = Value::Null;
        for at in 0..last {
            let answer = self.one((slot, at), "ADD", &container, &previous).run()?;
            previous = serde_json::from_str(&answer.stdout)?;
        }
        let moment = self.moment();
        let _ = self.one((slot, last), "ADD", &container, &previous).deadline(moment).output();
        Ok(container)
    }

    fn del_killed(&mut self, slot: usize, container: Attachment) -> Result<Attachment> {
        let first = self.random.below(4) as usize;
        for at in (first + 1..4).rev() {
            self.one((slot, at), "DEL", &container, &Value::Null).run()?;
        }
        let moment = self.moment();
        let _ = self.one((slot, first), "DEL", &container, &Value::Null).deadline(moment).output();
        Ok(container)
    }

    fn del(&self, slot: usize, container: &Attachment) -> Result<Slot> {
        self.chain(slot).del(&self.stage.host, container)?;
        Ok(Slot::Empty)
    }

    fn del_forgetful(&self, slot: usize, container: &Attachment) -> Result<Slot> {
        self.chain(slot).forget(&self.stage.host, container);
        self.del(slot, container)
    }

    fn del_dead(&self, slot: usize, container: Attachment) -> Result<Slot> {
        container.container().remove()?;
        self.del(slot, &container)
    }

    /// GC of one network; what is unclear is not in the runtime's list.
    fn collect(&mut self, chain: usize) -> Result<String> {
        for slot in (chain..SLOTS).step_by(2) {
            if matches!(self.slots[slot], Slot::Unclear(_)) {
                self.slots[slot] = Slot::Empty;
            }
        }
        let valid = self.slots.iter().skip(chain).step_by(2).filter_map(|slot| match slot {
            Slot::Attached(attachment) => Some(attachment),
            Slot::Empty | Slot::Unclear(_) => None,
        });
        self.chains[chain].gc(&self.stage.host, &valid.collect::<Vec<_>>())?;
        Ok(format!("GC {chain}"))
    }

    /// Everybody whom the runtime believes attached is.
    fn ensure_attached(&self) -> Result<()> {
        for (slot, content) in self.slots.iter().enumerate() {
            if let Slot::Attached(container) = content {
                let ends = self.chain(slot).check(&self.stage.host, container);
                ends.with_context(|| format!("CHECK of slot {slot}, {}", container.id()))?;
            }
        }
        Ok(())
    }
}

fn number(key: &str, usual: u64) -> u64 {
    env::var(key).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn any_order_of_verbs_and_kills_leaves_nothing() {
    let (seed, steps) = (number("ZEUGMA_RANDOM_SEED", SEED), number("ZEUGMA_RANDOM_STEPS", STEPS));
    println!("ZEUGMA_RANDOM_SEED={seed} ZEUGMA_RANDOM_STEPS={steps}");
    run(|world| {
        let chains = [network("net0", &plugins(0))?, network("net1", &plugins(1))?];
        let slots = (0..SLOTS).map(|_| Slot::Empty).collect();
        let mut story = Story { stage: Stage::new(world)?, chains, slots, random: Random(seed) };
        // What stays for good: the constant ruleset, and forwarding.
        for slot in [0, 1] {
            let container = story.fresh(slot)?;
            story.chain(slot).add(&story.stage.host, &container)?;
            story.chain(slot).gc(&story.stage.host, &[])?;
        }
        let before = story.stage.residue()?;
        let mut said = Vec::new();
        for step in 0..steps {
            let did = story.step().with_context(|| format!("step {step} after {said:?}"))?;
            said.push(did);
            if step % 50 == 0 {
                story.ensure_attached().with_context(|| format!("after step {step}: {said:?}"))?;
            }
        }
        story.ensure_attached()?;
        story.chains.iter().try_for_each(|chain| chain.gc(&story.stage.host, &[]))?;
        let diff = before.diff(&story.stage.residue()?);
        ensure!(diff.is_empty(), "left behind:\n{diff}");
        Ok(())
    });
}
