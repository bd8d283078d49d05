//! `zeugma stack`: from a docker-stack.yml to networks, names and addresses that containers use, and back.

use std::fs;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, eventually, run};
use zeugma_tests::agent::{SOON, dig};
use zeugma_tests::lab::{Lab, ensure_refused};

const SHOP: &str = r#"
services:
  web:
    image: nginx
    networks: [front]
    ports: ["8080:80"]
  db:
    image: postgres
    networks: [back]
    deploy: {endpoint_mode: dnsrr}
networks:
  front: {}
  back: {internal: true}
"#;

/// The file of the stack, and what `zeugma stack deploy` says of it.
fn deployed(lab: &Lab<'_>, text: &str) -> Result<String> {
    let file = lab.stage.host.run_dir().join("docker-stack.yml");
    fs::write(&file, text)?;
    lab.zeugma(&format!("stack deploy -c {} shop", file.display()))
}

/// The first address that `name` has for a container whose gateway is asked.
fn address(from: &Host, gateway: &str, name: &str) -> Result<String> {
    let told = || dig(from, gateway, name).unwrap_or_default().into_iter().next();
    ensure!(eventually(SOON, || told().is_some()), "{name} has no address");
    told().context("an address that is gone")
}

#[test]
fn a_stack_s_service_is_served_by_containers_with_its_name_as_alias() {
    run(|world| {
        let lab = Lab::new(world)?;
        deployed(&lab, SHOP)?;
        let web = world.container("one")?;
        lab.connected("shop_front", &web, "--alias web")?;
        let _server = web.tcp_echo("0.0.0.0:80", "web")?;
        let (asker, _) = lab.container("asker", &["shop_front"])?;
        let vip = address(&asker, "10.89.0.1", "shop_web")?;
        ensure!(vip.starts_with("10.213."), "{vip} is no virtual address");
        let answered = || asker.ask_tcp(&format!("{vip}:80")).is_ok_and(|told| told.starts_with("web"));
        ensure!(eventually(SOON, answered), "the virtual address leads nowhere");
        let published =
            || lab.stage.client.ask_tcp("192.0.2.1:8080").is_ok_and(|told| told.starts_with("web"));
        ensure!(eventually(SOON, published), "the published port leads nowhere");
        Ok(())
    });
}

#[test]
fn a_stack_is_deployed_again_without_a_change_and_removed_whole() {
    run(|world| {
        let lab = Lab::new(world)?;
        let told = deployed(&lab, SHOP)?;
        ensure!(told.matches(" created").count() == 4, "{told}");
        let told = deployed(&lab, SHOP)?;
        ensure!(told.matches(" unchanged").count() == 4, "{told}");
        let told = deployed(&lab, &SHOP.replace("8080:80", "8081:80"))?;
        ensure!(
            told.contains("service shop_web updated") && told.matches(" unchanged").count() == 3,
            "{told}"
        );
        ensure!(lab.zeugma("stack ls")?.contains("shop_back,shop_front"), "{}", lab.zeugma("stack ls")?);
        ensure!(lab.zeugma("stack services shop")?.contains("shop_db"), "the service is missing");
        ensure_refused(lab.network("rm shop_front"), "services are on network shop_front: shop_web")?;
        lab.zeugma("stack rm shop")?;
        ensure!(!lab.file("shop_front").exists() && !lab.file("shop_back").exists(), "lists are left");
        ensure_refused(lab.zeugma("stack rm shop"), "there is no stack shop")
    });
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    run(|world| {
        let lab = Lab::new(world)?;
        let told = deployed(&lab, &SHOP.replace("internal: true", "internl: true"));
        ensure_refused(told, "docker-stack.yml: line 13, column 10: network back has no key \"internl\"")?;
        ensure!(lab.network("ls")?.lines().count() == 1, "a network was made");
        Ok(())
    });
}

#[test]
fn what_belongs_to_another_stack_is_not_taken() {
    run(|world| {
        let lab = Lab::new(world)?;
        lab.zeugma("service create shop_web --port 80")?;
        ensure_refused(deployed(&lab, SHOP), "service shop_web is there and belongs to no stack")
    });
}
