//! A zone as hickory-server's catalog asks it: hickory's zone in memory, behind an index of names.
//!
//! By itself hickory's zone looks through all records for what is not there, answers existing names from wildcards
//! (RFC 4592, 2.2.2, says otherwise) and denies a wildcard's name for types that the wildcard lacks, which makes a
//! client that asks for A and AAAA give up. The index says beforehand what there is.

use std::collections::HashMap;

use async_trait::async_trait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{LowerName, Name, RecordType, TSigResponseContext};
use hickory_server::server::{Request, RequestInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{
    AuthLookup, AxfrPolicy, LookupControlFlow, LookupError, LookupOptions, ZoneHandler, ZoneType,
};

use super::master::Records;

/// A zone and its names.
pub(super) struct Zone {
    records: InMemoryZoneHandler,
    /// Names and the types that they have; names that only others are below have none.
    names: HashMap<LowerName, Vec<RecordType>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Records,
    NoData,
    NoName,
}

impl Zone {
    /// None: there is no SOA record.
    pub(super) fn new(origin: Name, records: Records) -> Option<Self> {
        let names = index(&LowerName::from(&origin), &records);
        let records = InMemoryZoneHandler::new(origin, records, ZoneType::Primary, AxfrPolicy::Deny).ok()?;
        Some(Self { records, names })
    }

    fn find(&self, name: &LowerName, kind: RecordType) -> Found {
        if self.is_delegated(name) {
            return Found::Records;
        }
        match self.names.get(name).or_else(|| self.names.get(&self.wildcard(name)?)) {
            Some(types) if types.contains(&kind) || types.contains(&RecordType::CNAME) => Found::Records,
            Some(_) => Found::NoData,
            None => Found::NoName,
        }
    }

    /// Whether another zone begins at the name or above it.
    fn is_delegated(&self, name: &LowerName) -> bool {
        let mut name = name.clone();
        while name != *self.origin() && !name.is_root() {
            if self.names.get(&name).is_some_and(|types| types.contains(&RecordType::NS)) {
                return true;
            }
            name = name.base_name();
        }
        false
    }

    /// The one wildcard that may stand for a name that is not there: below the closest name that is (RFC 4592, 3.3.1).
    fn wildcard(&self, name: &LowerName) -> Option<LowerName> {
        let mut name = name.clone();
        while !name.is_root() {
            let above = name.base_name();
            if self.names.contains_key(&above) {
                return Some(name.into_wildcard());
            }
            name = above;
        }
        None
    }
}

fn index(origin: &LowerName, records: &Records) -> HashMap<LowerName, Vec<RecordType>> {
    let mut names: HashMap<LowerName, Vec<RecordType>> = HashMap::new();
    for key in records.keys() {
        names.entry(key.name.clone()).or_default().push(key.record_type);
        let mut above = key.name.clone();
        while above != *origin && !above.is_root() {
            above = above.base_name();
            names.entry(above.clone()).or_default();
        }
    }
    names
}

#[async_trait]
impl ZoneHandler for Zone {
    fn zone_type(&self) -> ZoneType {
        self.records.zone_type()
    }

    fn axfr_policy(&self) -> AxfrPolicy {
        AxfrPolicy::Deny
    }

    fn origin(&self) -> &LowerName {
        self.records.origin()
    }

    /// What the catalog adds to answers: SOA and NS of the zone.
    async fn lookup(
        &self,
        name: &LowerName,
        kind: RecordType,
        info: Option<&RequestInfo<'_>>,
        options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        match self.find(name, kind) {
            Found::Records => self.records.lookup(name, kind, info, options).await,
            Found::NoData | Found::NoName => LookupControlFlow::Continue(Ok(AuthLookup::default())),
        }
    }

    /// What a client asks for.
    async fn search(
        &self,
        request: &Request,
        options: LookupOptions,
    ) -> (LookupControlFlow<AuthLookup>, Option<TSigResponseContext>) {
        let info = match request.request_info() {
            Ok(info) => info,
            Err(error) => return (LookupControlFlow::Break(Err(error)), None),
        };
        let (name, kind) = (info.query.name(), info.query.query_type());
        let found = match self.find(name, kind) {
            Found::Records => self.records.lookup(name, kind, Some(&info), options).await,
            Found::NoData => LookupControlFlow::Break(Err(LookupError::for_name_exists())),
            Found::NoName => LookupControlFlow::Break(Err(LookupError::from(ResponseCode::NXDomain))),
        };
        (found, None)
    }

    async fn nsec_records(&self, _: &LowerName, _: LookupOptions) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Continue(Ok(AuthLookup::default()))
    }
}
