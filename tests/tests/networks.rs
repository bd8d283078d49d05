//! `zeugma network`: from the command line by way of the agent to a list that runtimes read, and to containers on it.

use std::fs;

use anyhow::{Context, ensure};
use netns_fixtures::{AskError, Chain, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::agent::{Agent, SOON, ensure_told};
use zeugma_tests::bin_dir;
use zeugma_tests::lab::{Lab, agent, ensure_refused, zeugma};
use zeugma_tests::stage::Stage;

#[test]
fn what_is_created_is_a_list_that_a_runtime_can_use() {
    run(|world| {
        let lab = Lab::new(world)?;
        let told = lab.network("create front --ipv6 --label com.docker.stack.namespace=shop")?;
        ensure!(told.starts_with("front 10.89.0.0/24 fd"), "{told}");
        let chain = Chain::new(bin_dir(), serde_json::from_slice(&fs::read(lab.file("front"))?)?)?;
        let container = lab.stage.container()?;
        let result = chain.add(&lab.stage.host, &container)?;
        ensure!(result["ips"][0]["gateway"] == "10.89.0.1", "{result}");
        container.container().ping("192.0.2.2")?;
        chain.del(&lab.stage.host, &container)
    });
}

#[test]
fn containers_of_a_network_reach_one_another_by_name() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.network("create front")?;
        let (web, _) = lab.container("web", &["front"])?;
        let db = world.container("db")?;
        let address = lab.connected("front", &db, "--ip 10.89.0.77 --alias store")?;
        ensure!(address == "10.89.0.77", "{address}");
        ensure_told(&web, "10.89.0.1", "db", &["10.89.0.77".to_owned()])?;
        ensure_told(&web, "10.89.0.1", "store", &["10.89.0.77".to_owned()])?;
        web.ping("10.89.0.77")
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.network("create inside --internal")?;
        let (one, _) = lab.container("one", &["inside"])?;
        let (_two, addresses) = lab.container("two", &["inside"])?;
        one.ping(&addresses[0])?;
        let routes = one.ip_json("route")?;
        let is_default = |route: &Value| route["dst"] == "default";
        ensure!(!routes.as_array().context("routes")?.iter().any(is_default), "{routes}");
        ensure!(one.ping("192.0.2.2").is_err(), "the outside answers");
        Ok(())
    });
}

#[test]
fn services_are_reached_from_an_internal_network() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.network("create inside --internal")?;
        lab.zeugma(
            "service create web --network inside --port 80 --vip 10.213.0.9 --selector zeugma.alias=web",
        )?;
        let web = world.container("one")?;
        lab.connected("inside", &web, "--alias web")?;
        let _server = web.tcp_echo("0.0.0.0:80", "web")?;
        let (asker, _) = lab.container("asker", &["inside"])?;
        let answered = || asker.ask_tcp("10.213.0.9:80").is_ok_and(|told| told.starts_with("web"));
        ensure!(eventually(SOON, answered), "the virtual address leads nowhere");
        Ok(())
    });
}

#[test]
fn without_icc_containers_reach_the_outside_and_not_one_another() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.network("create apart --icc=false")?;
        let (one, _) = lab.container("one", &["apart"])?;
        let (two, addresses) = lab.container("two", &["apart"])?;
        let _server = two.tcp_echo("0.0.0.0:80", "two")?;
        let told = one.ask_tcp(&format!("{}:80", addresses[0]));
        ensure!(told.as_ref().is_err_and(AskError::is_timeout), "{told:?}");
        one.ping("192.0.2.2")
    });
}

#[test]
fn networks_are_kept_apart() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.network("create front")?;
        lab.network("create back")?;
        let (one, _) = lab.container("one", &["front"])?;
        let (two, addresses) = lab.container("two", &["back"])?;
        ensure!(addresses[0].starts_with("10.89.1."), "{addresses:?}");
        let _server = two.tcp_echo("0.0.0.0:80", "two")?;
        let told = one.ask_tcp(&format!("{}:80", addresses[0]));
        ensure!(told.as_ref().is_err_and(AskError::is_timeout), "{told:?}");
        Ok(())
    });
}

#[test]
fn disconnect_takes_what_connect_gave() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.network("create front")?;
        lab.network("create back")?;
        let (web, _) = lab.container("web", &["front"])?;
        lab.network("connect back web")?;
        ensure!(web.ip_json("link")?.as_array().map(Vec::len) == Some(3), "no second interface");
        let inspected: Value = serde_json::from_str(&lab.network("inspect back")?)?;
        ensure!(inspected[0]["Containers"]["web"]["Interface"] == "eth1", "{inspected}");
        ensure_refused(lab.network("connect back web"), "already, by eth1")?;
        lab.network("disconnect back web")?;
        ensure!(web.ip_json("link")?.as_array().map(Vec::len) == Some(2), "the interface is still there");
        ensure!(lab.network("ls")?.lines().any(|line| line.starts_with("back") && line.contains(" 0 ")));
        ensure_refused(lab.network("disconnect back web"), "is not on network back")
    });
}

#[test]
fn a_network_is_removed_with_all_that_it_left_once_nobody_is_on_it() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.network("create keep")?;
        let (_other, _) = lab.container("other", &["keep"])?;
        let before = lab.stage.host.residue()?;
        lab.network("create front")?;
        let (_web, _) = lab.container("web", &["front"])?;
        ensure_refused(lab.network("rm front"), "has containers: web")?;
        ensure!(lab.file("front").exists(), "the list is gone");
        lab.network("disconnect front web")?;
        lab.network("rm front")?;
        ensure!(!lab.file("front").exists(), "the list is still there");
        lab.stage.host.ensure_unchanged(&before)
    });
}

#[test]
fn networks_and_names_of_other_makers_are_left_alone() {
    run(|world| {
        let lab = Lab::new(world)?;
        let others = lab.stage.host.run_dir().join("net.d");
        fs::create_dir_all(&others)?;
        let list = json!({"cniVersion": "1.0.0", "name": "theirs", "plugins": [
            {"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.89.0.0/24"}}]});
        fs::write(others.join("10-theirs.conflist"), list.to_string())?;
        ensure_refused(lab.network("create theirs"), "10-theirs.conflist has a network named theirs")?;
        ensure!(lab.network("create mine")?.starts_with("mine 10.89.1.0/24"), "its subnet was taken");
        let listed = lab.network("ls")?;
        ensure!(
            listed.lines().any(|line| line.starts_with("theirs") && line.contains("10-theirs")),
            "{listed}"
        );
        ensure_refused(
            lab.network("create more --subnet 10.89.1.0/25"),
            "overlaps 10.89.1.0/24 of network mine",
        )?;
        ensure_refused(lab.network("rm theirs"), "there is no network theirs")
    });
}

#[test]
fn a_list_follows_the_catalogue_over_an_agent_s_restart() {
    run(|world| {
        world.shadow("/var/lib")?;
        let stage = Stage::new(world)?;
        let first = Agent::run(&stage.host, agent(&stage.host))?;
        zeugma(&stage.host, "network create front")?;
        let directory = stage.host.run_dir().join("net.d");
        let (front, stray) =
            (directory.join("zeugma-front.conflist"), directory.join("zeugma-stray.conflist"));
        let told = fs::read_to_string(&front)?;
        drop(first);
        fs::write(&stray, told.replace("\"front\"", "\"stray\""))?;
        fs::remove_file(&front)?;
        let _second = Agent::run(&stage.host, agent(&stage.host))?;
        ensure!(eventually(SOON, || fs::read_to_string(&front).is_ok_and(|now| now == told)), "not written");
        ensure!(eventually(SOON, || !stray.exists()), "what the catalogue does not have is still there");
        Ok(())
    });
}

#[test]
fn an_empty_catalogue_takes_nothing_away() {
    run(|world| {
        world.shadow("/var/lib")?;
        let stage = Stage::new(world)?;
        let first = Agent::run(&stage.host, agent(&stage.host))?;
        let created = zeugma(&stage.host, "network create front")?;
        zeugma(&stage.host, "service create web --port 80 --vip 10.213.0.9")?;
        let list = stage.host.run_dir().join("net.d/zeugma-front.conflist");
        let rules = || stage.host.nft_table("inet zeugma_services");
        let (told, table) = (fs::read_to_string(&list)?, rules()?);
        drop(first);
        fs::remove_file(stage.host.state_dir().join("catalogue.redb"))?;
        let second = Agent::run(&stage.host, agent(&stage.host))?;
        let is_told = |words: &str| eventually(SOON, || second.process.log().contains(words));
        ensure!(is_told("of another catalogue and stays"), "{}", second.process.log());
        ensure!(is_told("services of another catalogue are programmed"), "{}", second.process.log());
        ensure!(fs::read_to_string(&list)? == told, "the list changed");
        ensure!(rules()? == table, "the table changed");
        ensure!(zeugma(&stage.host, "network create front")? == created, "another network");
        fs::remove_file(stage.host.run_dir().join("services-catalogue"))?;
        ensure!(eventually(SOON, || rules().is_err()), "the table is still there");
        Ok(())
    });
}
