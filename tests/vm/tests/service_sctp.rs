//! Services with ports of SCTP, beside those of TCP and UDP with the same number. All else about services runs here as
//! well, from crates/kernel/tests/services.

use anyhow::ensure;
use ground::{Ground, VIPS, at, both, web};
use netns_fixtures::run;
use serde_json::json;

#[allow(dead_code, reason = "what the other tests of services use of it")]
#[path = "../../../crates/kernel/tests/services/ground.rs"]
mod ground;

#[test]
fn a_service_answers_over_tcp_udp_and_sctp_in_both_families() {
    run(|world| {
        let ground = Ground::new(world, 1)?;
        let (_servers, mut plane) = (ground.echoes()?, ground.plane()?);
        let _sctp = ground.containers[0].sctp_echo("[::]:80", "c2")?;
        let ports = json!(["tcp", "udp", "sctp"].map(|protocol| json!({"port": 80, "protocol": protocol})));
        let endpoints = both(&[2]);
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        plane.sync(&[web(json!({"ports": ports}), &endpoints)?])?;
        for client in [&ground.client, &ground.host, &ground.elsewhere] {
            for vip in VIPS.map(|vip| at(vip, 80)) {
                let answers = [client.ask_tcp(&vip)?, client.ask_udp(&vip)?, client.ask_sctp(&vip)?];
                ensure!(answers.iter().all(|answer| answer.starts_with("c2")), "{vip}: {answers:?}");
            }
        }
        plane.sync(&[web(json!({"ports": ports}), &[])?])?;
        for vip in VIPS.map(|vip| at(vip, 80)) {
            ensure!(ground.client.ask_sctp(&vip).is_err(), "{vip} answers without endpoints");
        }
        Ok(())
    });
}
