//! Limits on what a link sends: a token bucket for all of it, or for the traffic of some subnets. Pure values, with
//! the numbers that the kernel wants of them; what they are told by is a plugin's affair.

use std::fmt;
use std::num::NonZeroU64;

use ipnetwork::IpNetwork;

/// What is sent at a rate, on average, after a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: NonZeroU64,
    /// Bytes that may be sent at once.
    pub burst: u32,
}

impl TokenBucket {
    /// The time that a tick of the traffic control takes (`PSCHED_SHIFT` 6: 64 ns).
    const TICK_NANOS: u64 = 64;
    /// The kernel keeps the burst's time as 32 bits of nanoseconds.
    const MOST_TICKS: u64 = u32::MAX as u64 / Self::TICK_NANOS;
    /// How long a packet may wait in the queue.
    const LATENCY_MICROS: u64 = 25_000;

    /// The burst as the time that it takes at the rate, in ticks. Rounded down to microseconds first, as the
    /// reference does, so that either finds the other's work unchanged.
    pub fn buffer(&self) -> u32 {
        let micros = u64::from(self.burst) * 1_000_000 / self.rate;
        let ticks = micros.saturating_mul(1000) / Self::TICK_NANOS;
        u32::try_from(ticks.min(Self::MOST_TICKS)).unwrap_or(u32::MAX)
    }

    /// Bytes that may wait: what is sent in 25 ms, and the burst.
    pub fn limit(&self) -> u32 {
        let waiting = u128::from(self.rate.get()) * u128::from(Self::LATENCY_MICROS) / 1_000_000;
        u32::try_from(waiting + u128::from(self.burst)).unwrap_or(u32::MAX)
    }

    /// Bytes of the largest packet that ever gets through, link header included.
    pub fn largest_packet(&self) -> u64 {
        largest_packet(self.rate, self.buffer())
    }

    /// Bytes of burst with which packets of this size get through.
    pub fn least_burst(&self, packet: u32) -> u64 {
        let nanos = u128::from(packet) * 1_000_000_000;
        let micros = nanos.div_ceil(u128::from(self.rate.get())).div_ceil(1000);
        // A microsecond more makes up for ticks that are no whole microseconds.
        let bytes = (micros + 1) * u128::from(self.rate.get());
        u64::try_from(bytes.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

fn largest_packet(rate: NonZeroU64, ticks: u32) -> u64 {
    let nanos = u128::from(ticks) * u128::from(TokenBucket::TICK_NANOS);
    u64::try_from(nanos * u128::from(rate.get()) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// The limit at the root of a link as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    /// Bytes per second.
    pub rate: u64,
    /// The burst, in ticks of 64 ns at that rate.
    pub buffer: u32,
    /// Bytes that may wait; none when the limit is for some subnets only.
    pub limit: Option<u32>,
    /// How many subnets are treated unlike the rest.
    pub exceptions: usize,
}

/// Which end of a packet tells the subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Subnets that are treated unlike the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceptions {
    /// Which.
    pub subnets: Vec<IpNetwork>,
    /// Whether they alone are limited; otherwise all but they are.
    pub are_limited: bool,
    /// Which end of a packet is in them.
    pub end: End,
}

/// What a link's queue does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaper {
    /// The limit.
    pub bucket: TokenBucket,
    /// What the limit is for; none: everything.
    pub exceptions: Option<Exceptions>,
}

impl Shaper {
    /// What the kernel has where the link is limited so.
    pub fn state(&self) -> LimitState {
        LimitState {
            rate: self.bucket.rate.get(),
            buffer: self.bucket.buffer(),
            limit: self.exceptions.is_none().then(|| self.bucket.limit()),
            exceptions: self.exceptions.as_ref().map_or(0, |exceptions| exceptions.subnets.len()),
        }
    }

    /// The handle of the queue at the root (`1:`), by which it is known as ours.
    pub const ROOT: u16 = 1;
    /// The class that is limited (`1:30`), where not everything is.
    pub const LIMITED: u16 = 0x30;
    /// The queue of that class (`30:`).
    pub const LEAF: u16 = 0x30;

    /// The lines of tc(8) for a link.
    pub(crate) fn lines(&self, link: impl fmt::Display) -> Vec<String> {
        let TokenBucket { rate, burst } = self.bucket;
        let limit = self.bucket.limit();
        let root = format!("tc qdisc add dev {link} root handle 1: ");
        let Some(Exceptions { subnets, are_limited, end }) = &self.exceptions else {
            return vec![format!("{root}tbf rate {rate}bps burst {burst}b limit {limit}b")];
        };
        let (default, others) = if *are_limited { ("0", "1:30") } else { ("30", "1:0") };
        let word = if *end == End::Source { "src" } else { "dst" };
        let filter = |subnet: &IpNetwork| {
            let (protocol, ip) = if subnet.is_ipv6() { ("ipv6", "ip6") } else { ("ip", "ip") };
            format!(
                "tc filter add dev {link} parent 1: protocol {protocol} u32 match {ip} {word} {subnet} flowid {others}"
            )
        };
        let mut lines = vec![
            format!("{root}htb default {default}"),
            format!("tc class add dev {link} parent 1: classid 1:30 htb rate {rate}bps burst {burst}b"),
            format!("tc qdisc add dev {link} parent 1:30 handle 30: bfifo limit {limit}b"),
        ];
        lines.extend(subnets.iter().map(filter));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, burst: u32) -> TokenBucket {
        TokenBucket { rate: NonZeroU64::new(rate).unwrap(), burst }
    }

    #[test]
    fn numbers_are_the_reference_s() {
        // 20 Mbit/s with a burst of 2 Mbit: 100 ms, in ticks of 64 ns.
        let plain = bucket(2_500_000, 250_000);
        assert_eq!((plain.buffer(), plain.limit()), (1_562_500, 312_500));
        // 3.5 µs become 3, 46.875 ticks 46.
        assert_eq!(bucket(1_000_000_000, 3500).buffer(), 46);
    }

    #[test]
    fn the_longest_burst_is_what_the_kernel_can_keep() {
        // Kubernetes asks for a burst of 2^31 - 1 bits whatever the rate.
        let of_kubernetes = bucket(125_000, 268_435_455);
        assert_eq!(of_kubernetes.buffer(), 67_108_863);
        assert_eq!(bucket(1, u32::MAX).buffer(), 67_108_863);
        assert_eq!(bucket(u64::MAX, u32::MAX).limit(), u32::MAX);
    }

    #[test]
    fn the_least_burst_lets_a_packet_through_at_every_rate() {
        for rate in [1, 1000, 125_000, 1_250_001, 12_500_000, 125_000_000, 12_500_000_000] {
            let least = bucket(rate, 0).least_burst(1514);
            let burst = u32::try_from(least).unwrap();
            assert!(bucket(rate, burst).largest_packet() >= 1514 || rate < 353, "{rate} {burst}");
        }
    }
}
