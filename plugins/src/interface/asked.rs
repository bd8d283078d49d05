//! Keys that several interface plugins have, and what a runtime asks for one container beside them.

use zeugma_model::Mac;
use zeugma_skel::Request;

use super::Error;

/// The Ethernet address: `runtimeConfig.mac`, else `args.cni.mac`, else `MAC` in `CNI_ARGS`.
pub(crate) fn mac(request: &Request) -> Result<Option<Mac>, Error> {
    let asked: Option<String> = match request.conf.capability("mac")? {
        Some(text) => Some(text),
        None => request.conf.arg_cni("mac")?,
    };
    let asked = asked.or_else(|| request.args.get("MAC").map(str::to_owned)).filter(|text| !text.is_empty());
    asked.map(|text| unicast(&text)).transpose()
}

/// The kernel would refuse an address of a group, or none, without saying why.
fn unicast(text: &str) -> Result<Mac, Error> {
    let mac: Mac = text.parse().map_err(Error::Mac)?;
    let is_group = mac.0[0] & 1 == 1;
    if is_group || mac.0 == [0; 6] {
        let allowed =
            "the address of one interface: the lowest bit of its first byte is 0, and not all are 0";
        return Err(Error::Value { key: "MAC address asked for", value: text.into(), allowed });
    }
    Ok(mac)
}

/// `ipMasqBackend`: both names mean the same here, zeugma needs neither program.
pub(crate) fn check_backend(backend: Option<&str>) -> Result<(), Error> {
    match backend {
        None | Some("" | "iptables" | "nftables") => Ok(()),
        Some(other) => Err(Error::Backend(other.into())),
    }
}
