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
    asked.map(|text| text.parse().map_err(Error::Mac)).transpose()
}

/// `ipMasqBackend`: both names mean the same here, zeugma needs neither program.
pub(crate) fn check_backend(backend: Option<&str>) -> Result<(), Error> {
    match backend {
        None | Some("" | "iptables" | "nftables") => Ok(()),
        Some(other) => Err(Error::Backend(other.into())),
    }
}
