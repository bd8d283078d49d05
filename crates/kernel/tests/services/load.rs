//! Clients that ask without a pause, and a connection that lasts.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::Host;
use serde_json::json;

use crate::ground::{Ground, Plane, at};

/// Requests, one after another.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Load {
    pub(crate) fn start(client: &Host, address: &str) -> Result<Self> {
        let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, count) = (ended.clone(), answered.clone());
        let (client, address) = (client.clone(), address.to_owned());
        let thread = thread::spawn(move || {
            let mut failed = Vec::new();
            while !until.load(Ordering::Relaxed) {
                match client.ask_tcp(&address) {
                    Ok(answer) if !answer.is_empty() => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Ok(_) => failed.push("an empty answer".to_owned()),
                    Err(error) => failed.push(error.to_string()),
                }
            }
            failed
        });
        Ok(Self { ended, answered, thread })
    }

    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Why requests failed.
    pub(crate) fn stop(self) -> Vec<String> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| vec!["the client's thread panicked".to_owned()])
    }
}

/// A connection through the virtual address, port 81, to an endpoint that stays: c2.
pub(crate) struct Lasting {
    client: TcpStream,
    server: TcpStream,
}

impl Lasting {
    pub(crate) fn open(ground: &Ground, plane: &mut Plane) -> Result<Self> {
        let listener = ground.containers[0].enter(|| Ok(TcpListener::bind("[::]:8081")?))?;
        let service = json!({
            "name": "lasting", "vips": ["10.96.0.2"], "ports": [{"port": 81, "target": 8081}],
        });
        let endpoints = json!([{"address": "10.88.0.2", "node": "n1"}]);
        plane.update(&zeugma_services::Workload {
            service: serde_json::from_value(service)?,
            endpoints: serde_json::from_value(endpoints)?,
        })?;
        let address = at("10.96.0.2", 81);
        let client =
            ground.client.enter(|| TcpStream::connect(&address).context("connect to a lasting service"))?;
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        }
        Ok(Self { client, server })
    }

    pub(crate) fn ensure_alive(mut self) -> Result<()> {
        self.client.write_all(b"ping")?;
        let mut heard = [0; 4];
        self.server.read_exact(&mut heard).context("the connection was cut")?;
        ensure!(&heard == b"ping", "{heard:?}");
        Ok(())
    }
}
