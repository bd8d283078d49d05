//! Writes many services with added endpoints into a new catalogue: what `cargo xtask bench services` starts an agent on.
//!
//! `fill FILE SERVICES ENDPOINTS`: service N is `service-N` with the virtual address 10.96.0.0 + N, port 80 → 8080, and
//! endpoints of its own from 11.0.0.0 + N * ENDPOINTS on.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use zeugma_catalogue::{Embedded, Outcome, Table, Transaction};
use zeugma_model::{Deployment, RegisteredEndpoint};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, services, endpoints] = &words[..] else {
        return Err("use: fill FILE SERVICES ENDPOINTS".into());
    };
    let (services, endpoints): (u32, u32) = (services.parse()?, endpoints.parse()?);
    let catalogue = Arc::new(Embedded::open(file).await?);
    let all = Table::<Deployment>::new(catalogue);
    let (mut batch, mut room) = (Transaction::new(), Transaction::KEY_LIMIT);
    for number in 1..=services {
        batch = with_service(batch, number)?;
        room -= 1;
        for at in 0..endpoints {
            if room == 0 {
                commit(&all, std::mem::take(&mut batch)).await?;
                room = Transaction::KEY_LIMIT;
            }
            batch = with_endpoint(batch, number, number * endpoints + at)?;
            room -= 1;
        }
        if room == 0 {
            commit(&all, std::mem::take(&mut batch)).await?;
            room = Transaction::KEY_LIMIT;
        }
    }
    commit(&all, batch).await
}

async fn commit(all: &Table<Deployment>, batch: Transaction) -> Result<(), Failure> {
    match all.store().commit(batch).await? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Conflict { key, .. } => Err(format!("{key} was written by somebody else").into()),
    }
}

fn with_service(batch: Transaction, number: u32) -> Result<Transaction, Failure> {
    let (name, vip) = (format!("service-{number}"), Ipv4Addr::from(0x0a60_0000 + number));
    let service = serde_json::json!({"name": name, "vips": [vip], "ports": [{"port": 80, "target": 8080}]});
    let deployment: Deployment = serde_json::from_value(serde_json::json!({"service": service}))?;
    Ok(Table::put(batch, &name, &deployment, None)?)
}

fn with_endpoint(batch: Transaction, service: u32, number: u32) -> Result<Transaction, Failure> {
    let address = IpAddr::from(Ipv4Addr::from(0x0b00_0000 + number));
    let text = serde_json::json!({"service": format!("service-{service}"), "endpoint": {"address": address}});
    let endpoint: RegisteredEndpoint = serde_json::from_value(text)?;
    Ok(Table::put(batch, &endpoint.key(), &endpoint, None)?)
}
