//! The demo's network as a picture of characters.
//!
//! Draws what it is given; looks at nothing.

/// What is in the picture.
pub(crate) struct Scene<'a> {
    /// The host's address on the uplink.
    pub(crate) host: &'a str,
    /// The outside client's address.
    pub(crate) outside: &'a str,
    /// The bridge's address.
    pub(crate) gateway: &'a str,
    /// Names and addresses; the first one has the published port.
    pub(crate) containers: [(&'a str, &'a str); 2],
    /// The port on the host and the one in the container.
    pub(crate) published: (u32, u32),
}

/// The picture, ending in a line feed.
pub(crate) fn draw(scene: &Scene<'_>) -> String {
    let [(web, web_address), (db, db_address)] = scene.containers;
    let (host_port, port) = scene.published;
    let publish = format!("{}:{host_port} -> {web_address}:{port}", scene.host);
    format!(
        "
    +-- outside --------------+
    |  eth0 {:<18}|
    +------------+------------+
                 | uplink
    +-- host ----+---------------------------------------------+
    |  uplink {:<49}|
    |  published  {publish:<45}|
    |  masquerade what leaves the network                      |
    |  bridge demo0 {:<43}|
    +------+------------------------+--------------------------+
           | veth                   | veth
    +------+---------------+ +------+---------------+
    | eth0 {web_address:<16}| | eth0 {db_address:<16}|
    | container {web:<11}| | container {db:<11}|
    +----------------------+ +----------------------+
",
        scene.outside, scene.host, scene.gateway
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_closed_whatever_the_addresses() {
        for address in ["10.0.0.1", "192.168.100.200"] {
            let scene = Scene {
                host: address,
                outside: address,
                gateway: address,
                containers: [("web", address), ("db", address)],
                published: (8080, 80),
            };
            let picture = draw(&scene);
            let widths = |from: usize, to: usize| {
                picture
                    .lines()
                    .skip(from)
                    .take(to - from)
                    .map(str::len)
                    .collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(
                (widths(1, 4).len(), widths(5, 11).len(), widths(12, 16).len()),
                (1, 1, 1),
                "{picture}"
            );
        }
    }
}
