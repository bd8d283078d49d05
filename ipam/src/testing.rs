//! Requests for tests, made as a runtime makes them: out of JSON and CNI_ARGS.

use serde_json::{Value, json};
use zeugma_protocol::NetConf;
use zeugma_skel::{CniArgs, NetworkRequest, Request};

/// A configuration `net` of 1.1.0 with these keys besides.
pub(crate) fn conf(ipam: Value, more: &Value) -> NetConf {
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam});
    for (key, value) in more.as_object().into_iter().flatten() {
        conf[key] = value.clone();
    }
    if let Some(ipam) = conf["ipam"].as_object_mut() {
        ipam.entry("type").or_insert("host-local".into());
    }
    NetConf::parse(conf.to_string().as_bytes()).unwrap()
}

pub(crate) fn args(text: &str) -> CniArgs {
    CniArgs {
        pairs: text
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect(),
        ignore_unknown: false,
    }
}

pub(crate) fn request(conf: &NetConf, container: &str, cni_args: &str) -> Request {
    Request {
        conf: conf.clone(),
        container: container.parse().unwrap(),
        netns: None,
        ifname: "eth0".parse().unwrap(),
        args: args(cni_args),
        path: Vec::new(),
        stdin: Vec::new(),
    }
}

pub(crate) fn network_request(conf: &NetConf) -> NetworkRequest {
    NetworkRequest { conf: conf.clone(), path: Vec::new(), stdin: Vec::new() }
}
