//! The dialects of those who call CNI plugins: configuration, arguments and results as Mesos, Podman, nerdctl,
//! CRI-O and the kubelet write and read them. Real runtimes are in `tests/runtimes`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, network, portmap, refusal, with};

/// What the record of the plugin that made the interface keeps of the container's identity.
fn identity(stage: &Stage<'_>, network: &str, of: &Attachment) -> Result<Value> {
    let place = ["attachments", network, of.id(), of.ifname()];
    let folder = stage.host.run_dir().join(place.iter().collect::<PathBuf>());
    let first = fs::read_dir(&folder)?.flatten().map(|file| file.path()).min().context("no record")?;
    let record: Value = serde_json::from_slice(&fs::read(first)?)?;
    Ok(record["identity"].clone())
}

/// What an agent puts into every configuration.
fn mesos_args(port_mappings: &Value) -> Value {
    json!({"org.apache.mesos": {"network_info": {
        "name": "mesos-bridge",
        "labels": {"labels": [{"key": "app", "value": "web"}, {"key": "tier"}]},
        "port_mappings": port_mappings,
    }}})
}

fn mesos_bridge() -> Value {
    json!({
        "name": "mesos-bridge", "type": "bridge", "bridge": "mesos-cni0", "isGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": "192.168.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]},
        "args": mesos_args(&json!([])),
    })
}

fn mesos_port_mapper(port_mappings: &Value) -> Value {
    json!({
        "name": "mesos-bridge", "type": "mesos-cni-port-mapper", "excludeDevices": ["mesos-cni0"],
        "chain": "MESOS-TEST-PORT-MAPPER", "args": mesos_args(port_mappings),
        "delegate": {
            "type": "bridge", "bridge": "mesos-cni0", "isGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "subnet": "192.168.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]},
        },
    })
}

/// A call as an agent makes it: no list, no `cniVersion`, no CNI_ARGS; the plugins under their own names.
fn mesos(stage: &Stage<'_>, verb: &str, config: &Value, container: &Attachment) -> Result<Call> {
    let dir = stage.world.dir().join("mesos");
    if !dir.exists() {
        fs::create_dir(&dir)?;
        for name in ["bridge", "host-local", "portmap", "mesos-cni-port-mapper"] {
            symlink(bin_dir().join("zeugma-cni"), dir.join(name))?;
        }
    }
    let plugin = config["type"].as_str().context("a plugin")?;
    Ok(Call::new(dir, plugin, verb, config).of(container).without("CNI_ARGS"))
}

#[test]
fn mesos_reads_the_result_of_a_single_configuration() {
    run(|world| {
        let (stage, config) = (Stage::new(world)?, mesos_bridge());
        world.shadow("/var/lib")?;
        let container = stage.container()?;
        let result = mesos(&stage, "ADD", &config, &container)?.run(&stage.host)?;
        let ip4 = json!({"ip": "192.168.0.2/16", "gateway": "192.168.0.1", "routes": [{"dst": "0.0.0.0/0"}]});
        assert_eq!(
            (&result["ip4"], &result["ips"], &result["interfaces"]),
            (&ip4, &Value::Null, &Value::Null)
        );
        container.container().run(["ping", "-c1", "-W5", "192.0.2.2"])?;
        assert_eq!(
            identity(&stage, "mesos-bridge", &container)?["labels"],
            json!({"app": "web", "tier": ""})
        );
        Ok(())
    });
}

#[test]
fn mesos_deletes_without_namespace_and_before_it_ever_added() {
    run(|world| {
        let (stage, config) = (Stage::new(world)?, mesos_bridge());
        world.shadow("/var/lib")?;
        mesos(&stage, "ADD", &config, &stage.container()?)?.run(&stage.host)?;
        let before = stage.residue()?;
        let container = stage.container()?;
        mesos(&stage, "DEL", &config, &container)?.run(&stage.host)?;
        mesos(&stage, "ADD", &config, &container)?.run(&stage.host)?;
        container.container().remove()?;
        mesos(&stage, "DEL", &config, &container)?.without("CNI_NETNS").run(&stage.host)?;
        ensure!(!fs::exists("/var/lib/cni/networks/mesos-bridge/192.168.0.3")?, "the lease is still there");
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn mesos_publishes_ports_by_its_port_mapper() {
    run(|world| {
        let stage = Stage::new(world)?;
        world.shadow("/var/lib")?;
        let ports = json!([{"host_port": 8080, "container_port": 80, "protocol": "tcp"},
            {"host_port": 8081, "container_port": 81}]);
        let (config, container) = (mesos_port_mapper(&ports), stage.container()?);
        let other = mesos_port_mapper(&json!([{"host_port": 9000, "container_port": 90}]));
        mesos(&stage, "ADD", &other, &stage.container()?)?.run(&stage.host)?;
        let before = stage.residue()?;
        let result = mesos(&stage, "ADD", &config, &container)?.run(&stage.host)?;
        assert_eq!(result["ip4"]["ip"], "192.168.0.3/16", "{result}");
        let _servers = (
            container.container().tcp_echo("0.0.0.0:80", "a")?,
            container.container().tcp_echo("0.0.0.0:81", "b")?,
        );
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "a 192.0.2.2");
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8081")?, "b 192.0.2.2");
        assert!(stage.host.ask_tcp("127.0.0.1:8080")?.starts_with("a "));
        mesos(&stage, "DEL", &config, &container)?.without("CNI_NETNS").run(&stage.host)?;
        assert!(stage.client.ask_tcp("192.0.2.1:8080").is_err());
        stage.host.run(["conntrack", "-F"])?;
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn a_port_mapper_that_fails_leaves_nothing_of_its_delegate() {
    run(|world| {
        let stage = Stage::new(world)?;
        world.shadow("/var/lib")?;
        let config = mesos_port_mapper(&json!([{"host_port": 8080, "container_port": 80}]));
        mesos(&stage, "ADD", &config, &stage.container()?)?.run(&stage.host)?;
        let (before, second) = (stage.residue()?, stage.container()?);
        let empty = second.container().residue()?;
        let error = refusal(mesos(&stage, "ADD", &config, &second)?.run(&stage.host));
        assert_eq!(error.code, 101, "{error}");
        let missing = with(config.clone(), json!({"delegate": {"type": "weave"}}));
        let error = refusal(mesos(&stage, "ADD", &missing, &second)?.run(&stage.host));
        assert!(error.code == 7 && error.msg.contains("\"weave\""), "{error}");
        stage.ensure_unchanged(&before)?;
        second.container().ensure_unchanged(&empty)
    });
}

#[test]
fn a_port_mapper_in_a_new_version_passes_every_verb_on() {
    run(|world| {
        let stage = Stage::new(world)?;
        world.shadow("/var/lib")?;
        let ports = json!([{"host_port": 8080, "container_port": 80}]);
        let config = with(mesos_port_mapper(&ports), json!({"cniVersion": "1.1.0"}));
        let call = |verb, config: &Value, of| mesos(&stage, verb, config, of)?.run(&stage.host);
        let container = stage.container()?;
        call("STATUS", &config, &container)?;
        let result = call("ADD", &config, &container)?;
        let checked = with(config.clone(), json!({"prevResult": result}));
        call("CHECK", &checked, &container)?;
        container.container().ip("link set eth0 down")?;
        assert_eq!(refusal(call("CHECK", &checked, &container)).code, 110);
        call("GC", &with(config, json!({"cni.dev/valid-attachments": []})), &container)?;
        ensure!(!fs::exists("/var/lib/cni/networks/mesos-bridge/192.168.0.2")?, "the delegate got no GC");
        assert_eq!(container.container().ip_json("link")?.as_array().map(Vec::len), Some(1));
        Ok(())
    });
}

#[test]
fn a_wrong_word_of_mesos_is_named() {
    run(|world| {
        let stage = Stage::new(world)?;
        for (ports, named) in [
            (json!([{"host_port": "x", "container_port": 80}]), "network_info.port_mappings[0].host_port"),
            (json!({}), "network_info.port_mappings"),
            (json!([{"host_port": 8080, "container_port": 65536}]), "container_port"),
        ] {
            let call = mesos(&stage, "ADD", &mesos_port_mapper(&ports), &stage.container()?)?;
            let error = refusal(call.run(&stage.host));
            assert!([6, 7].contains(&error.code) && error.msg.contains(named), "{error}");
        }
        Ok(())
    });
}

/// As `podman network create` writes it, with the capability that its DNS plugin declares.
fn podman_network() -> Result<Chain> {
    let bridge = json!({
        "type": "bridge", "bridge": "cni-podman1", "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]]},
        "capabilities": {"ips": true, "aliases": true},
    });
    let rest = [portmap(), json!({"type": "firewall", "backend": ""}), json!({"type": "tuning"})];
    let plugins = [&[bridge][..], &rest[..]].concat();
    Chain::new(bin_dir(), json!({"cniVersion": "0.4.0", "name": "blue", "plugins": plugins}))
}

#[test]
fn podman_s_aliases_are_those_of_the_network() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, podman_network()?);
        let aliases = json!({"blue": ["web", "3f2a81c09d4e"], "red": ["other"]});
        let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]);
        let container = stage.container()?.with(json!({"aliases": aliases, "portMappings": ports})).args(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c0;MAC=02:00:00:00:00:07",
        );
        let result = chain.add(&stage.host, &container)?;
        assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:07");
        let pod = json!({"namespace": "web", "name": "web"});
        assert_eq!(
            identity(&stage, "blue", &container)?,
            json!({"aliases": ["web", "3f2a81c09d4e"], "pod": pod})
        );
        chain.check(&stage.host, &container)?;
        chain.del(&stage.host, &container.without_netns())
    });
}

#[test]
fn nerdctl_s_aliases_are_a_list() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, podman_network()?);
        let container = stage
            .container()?
            .with(json!({"aliases": ["web", "db_1"], "portMappings": []}))
            .args("IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=web-1");
        chain.add(&stage.host, &container)?;
        assert_eq!(identity(&stage, "blue", &container)?, json!({"aliases": ["web", "db_1"]}));
        chain.del(&stage.host, &container)
    });
}

#[test]
fn every_plugin_that_makes_an_interface_keeps_the_aliases() {
    let common = json!({"ipam": bridge(0)["ipam"], "capabilities": {"aliases": true}});
    for plugin in [json!({"type": "ptp"}), json!({"type": "macvlan", "master": "eth0"})] {
        run(|world| {
            let (stage, chain) = (Stage::new(world)?, network("net", &[with(plugin, common.clone())])?);
            let container = stage.container()?.with(json!({"aliases": ["web"]}));
            chain.add(&stage.host, &container)?;
            assert_eq!(identity(&stage, "net", &container)?, json!({"aliases": ["web"]}));
            chain.del(&stage.host, &container)
        });
    }
}

#[test]
fn wrong_aliases_are_refused_before_anything_is_done() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, podman_network()?);
        chain.add(&stage.host, &stage.container()?)?;
        let (before, container) = (stage.residue()?, stage.container()?);
        let error = refusal(chain.add(&stage.host, &container.with(json!({"aliases": {"blue": ["a b"]}}))));
        assert!(error.code == 6 && error.msg.contains("\"runtimeConfig.aliases.blue[0]\""), "{error}");
        stage.ensure_unchanged(&before)
    });
}

/// As CRI-O ships it, and what it tells of a pod.
#[test]
fn cri_o_s_pod_is_attached_and_remembered() {
    run(|world| {
        let stage = Stage::new(world)?;
        let bridge = json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                "ranges": [[{"subnet": "10.85.0.0/16"}], [{"subnet": "1100:200::/24"}]]},
            "capabilities": {"cgroupPath": true, "aliases": true},
        });
        let plugins = json!([bridge, portmap()]);
        let chain =
            Chain::new(bin_dir(), json!({"cniVersion": "1.0.0", "name": "crio", "plugins": plugins}))?;
        let cgroup = "/kubepods.slice/kubepods-pod1.slice/crio-2c48.scope";
        let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""}]);
        let container = stage.container()?.with(json!({"cgroupPath": cgroup, "portMappings": ports})).args(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=2c48;K8S_POD_UID=u-1",
        );
        chain.add(&stage.host, &container)?;
        let pod = json!({"namespace": "default", "name": "web-0", "uid": "u-1"});
        assert_eq!(identity(&stage, "crio", &container)?, json!({"pod": pod, "cgroup": cgroup}));
        let _server = container.container().tcp_echo("[::]:80", "pod")?;
        assert_eq!(stage.client.ask_tcp("[2001:db8:1::1]:8080")?, "pod 2001:db8:1::2");
        chain.check(&stage.host, &container)?;
        chain.del(&stage.host, &container)
    });
}

#[test]
fn the_kubelet_s_arguments_are_tolerated_with_and_without_ignore_unknown() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, network("net", &[bridge(0), portmap()])?);
        let pod = "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns;K8S_POD_INFRA_CONTAINER_ID=1;K8S_POD_UID=2";
        for prefix in ["IgnoreUnknown=1;", "IgnoreUnknown=true;SOMETHING=else;", ""] {
            let container = stage.container()?.args(&format!("{prefix}{pod}"));
            chain.add(&stage.host, &container)?;
            chain.del(&stage.host, &container)?;
        }
        let error =
            refusal(chain.add(&stage.host, &stage.container()?.args(&format!("SOMETHING=else;{pod}"))));
        assert!(error.msg.contains(r#"unknown args ["SOMETHING=else"]"#), "{error}");
        Ok(())
    });
}

#[test]
fn containerd_s_port_mappings_have_capitals() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, network("net", &[bridge(0), portmap()])?);
        let ports = json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]);
        let container = stage.container()?.with(json!({"portMappings": ports}));
        chain.add(&stage.host, &container)?;
        let _server = container.container().tcp_echo("[::]:80", "web")?;
        assert_eq!(stage.client.ask_tcp("192.0.2.1:8080")?, "web 192.0.2.2");
        chain.del(&stage.host, &container)
    });
}

#[test]
fn keys_are_read_whatever_their_case() {
    run(|world| {
        let stage = Stage::new(world)?;
        let ipam = json!({"Type": "host-local", "DATADIR": stage.host.run_dir().join("networks"),
            "Ranges": [[{"Subnet": "10.88.0.0/24", "rangestart": "10.88.0.7", "GATEWAY": "10.88.0.9"}]]});
        let config = json!({"cniversion": "1.0.0", "Name": "net", "TYPE": "bridge", "BRIDGE": "br7",
            "isdefaultgateway": true, "MTU": 1400, "Ipam": ipam});
        let container = stage.container()?;
        let result = Call::new(bin_dir(), "bridge", "ADD", &config).of(&container).run(&stage.host)?;
        let ip = json!({"address": "10.88.0.7/24", "gateway": "10.88.0.9", "interface": 2});
        assert_eq!((&result["ips"][0], &result["interfaces"][0]["name"]), (&ip, &json!("br7")));
        assert_eq!(container.container().ip_json("link show eth0")?[0]["mtu"], 1400);
        container.container().run(["ping", "-c1", "-W5", "192.0.2.1"])?;
        Call::new(bin_dir(), "bridge", "DEL", &config).of(&container).run(&stage.host)?;
        Ok(())
    });
}
