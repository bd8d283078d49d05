//! The promises of the fixtures themselves: links carry traffic, worlds are apart and leave nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use netns_fixtures::{Chain, CniError, World, eventually, run, try_run};
use serde_json::json;

/// A host with a client behind a link, dual stack.
fn pair(world: &World) -> Result<(netns_fixtures::Host, netns_fixtures::Host)> {
    let (host, client) = (world.host("host")?, world.host("client")?);
    world.link(
        (&host, "eth0", "192.0.2.1/24 2001:db8::1/64"),
        (&client, "eth0", "192.0.2.2/24 2001:db8::2/64"),
    )?;
    Ok((host, client))
}

#[test]
fn linked_hosts_ping_each_other() {
    run(|world| {
        let (host, client) = pair(world)?;
        client.ping("192.0.2.1")?;
        host.ping("2001:db8::2")
    });
}

#[test]
fn servers_say_their_name_and_the_peer() {
    run(|world| {
        let (host, client) = pair(world)?;
        let _tcp = host.tcp_echo("[::]:80", "web")?;
        let _udp = host.udp_echo("192.0.2.1:53", "dns")?;
        assert_eq!(client.ask_tcp("192.0.2.1:80")?, "web 192.0.2.2");
        assert_eq!(client.ask_tcp("[2001:db8::1]:80")?, "web 2001:db8::2");
        assert_eq!(client.ask_udp("192.0.2.1:53")?, "dns 192.0.2.2");
        Ok(())
    });
}

#[test]
fn questions_without_a_server_are_refused_or_time_out() {
    run(|world| {
        let (host, client) = pair(world)?;
        drop(host.tcp_echo("0.0.0.0:80", "gone")?);
        assert!(client.ask_tcp("192.0.2.1:80").is_err_and(|error| error.is_refused()));
        assert!(client.ask_udp("192.0.2.1:53").is_err_and(|error| error.is_refused()));
        host.nft("table inet t { chain c { type filter hook input priority 0; tcp dport 80 drop; }; }")?;
        assert!(client.ask_tcp("192.0.2.1:80").is_err_and(|error| error.is_timeout()));
        Ok(())
    });
}

#[test]
fn residue_names_what_was_left() {
    run(|world| {
        let (host, client) = pair(world)?;
        client.ping("192.0.2.1")?;
        let before = host.residue()?;
        host.ensure_unchanged(&before)?;
        host.nft("table inet t { set s { type ipv4_addr; elements = { 10.0.0.1 }; }; }")?;
        host.ip("link add br0 type bridge")?;
        let diff = before.diff(&host.residue()?);
        assert!(diff.contains("+ link br0") && diff.contains("+ nft table inet t set s"), "{diff}");
        assert!(!diff.contains("\n- "), "{diff}");
        Ok(())
    });
}

#[test]
fn parallel_worlds_do_not_see_each_other() {
    let story = |number: usize| {
        move || {
            run(move |world| {
                let (_, client) = pair(world)?;
                client.ping("192.0.2.1")?;
                let mark = world.dir().join("mark");
                fs::write(&mark, number.to_string())?;
                assert_eq!(fs::read_to_string(&mark)?, number.to_string());
                Ok(())
            })
        }
    };
    std::thread::scope(|scope| {
        (0..8).for_each(|number| drop(scope.spawn(story(number))));
    });
}

#[test]
fn a_host_has_files_of_its_own_and_sees_containers_that_come_later() {
    run(|world| {
        let (one, other) = pair(world)?;
        let shared = world.dir().join("shared");
        fs::create_dir(&shared)?;
        let place = one.own(&shared)?;
        let running = one.spawn(["sleep", "60"])?;
        one.run(["touch".into(), shared.join("mine")])?;
        other.run(["touch".into(), shared.join("theirs")])?;
        assert!(place.join("mine").exists() && shared.join("theirs").exists());
        assert!(!shared.join("mine").exists() && !place.join("theirs").exists());
        let late = world.container("late")?;
        let seen = format!("/proc/{}/root{}", running.pid(), late.path().display());
        one.run(["nsenter".to_owned(), format!("--net={seen}"), "ip".into(), "link".into()])?;
        late.remove()?;
        assert!(!fs::exists(seen)?);
        Ok(())
    });
}

#[test]
fn the_machine_is_untouched_while_a_world_lives() {
    let links = || -> Result<BTreeSet<String>> {
        Ok(fs::read_dir("/sys/class/net")?
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into())
            .collect())
    };
    let before = links().expect("sysfs is there");
    let result = try_run(|world| {
        pair(world)?;
        links()
    });
    assert_eq!(result.expect("a world"), before);
    assert!(!fs::exists("/run/world").unwrap_or(true));
}

#[test]
#[should_panic(expected = "the story's message")]
fn an_error_fails_the_test_with_its_message() {
    run(|_| Err(anyhow::anyhow!("the story's message")));
}

#[test]
fn dropped_commands_are_killed() {
    run(|world| {
        let host = world.host("host")?;
        let running = host.spawn(["sleep", "1000"])?;
        let proc = format!("/proc/{}", running.pid());
        assert!(running.is_running() && fs::exists(&proc)?);
        drop(running);
        assert!(!fs::exists(&proc)?);
        Ok(())
    });
}

/// Set for the process that [`nothing_survives_a_killed_test_process`] starts and kills.
const TO_BE_KILLED: &str = "NETNS_FIXTURES_TO_BE_KILLED";

/// Says what it started, and waits for its end.
fn wait_to_be_killed() -> ! {
    run(|world| {
        let host = world.host("host")?;
        let running = host.spawn(["sleep", "1000"])?;
        println!("\npid {} netns {}", running.pid(), fs::read_link("/proc/self/ns/pid")?.display());
        loop {
            std::thread::park();
        }
    });
    unreachable!("it is killed while it waits")
}

#[test]
fn nothing_survives_a_killed_test_process() -> Result<()> {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        wait_to_be_killed();
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "--nocapture", "nothing_survives_a_killed_test_process"])
        .env(TO_BE_KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().context("piped above")?);
    let line = output.lines().map_while(Result::ok).find(|line| line.starts_with("pid "));
    let line = line.context("the child said nothing")?;
    let pid = line.split(' ').nth(1).context("pid N")?.to_owned();
    child.kill()?;
    child.wait()?;
    let gone =
        || !fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("sleep"));
    assert!(eventually(Duration::from_secs(2), gone), "the command of a killed test still runs as {pid}");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, mounts);
    assert!(!fs::exists("/run/world")?);
    Ok(())
}

#[test]
fn a_chain_passes_capabilities_and_previous_results() {
    run(|world| {
        let host = world.host("host")?;
        let bin = world.dir().join("bin");
        fs::create_dir(&bin)?;
        let script = "#!/bin/sh\nconfig=$(cat)\necho \"$CNI_COMMAND $config\" >>$ZEUGMA_RUN_DIR/log\n\
            [ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\"}'\n\
            [ $CNI_COMMAND = CHECK ] && echo '{\"code\":11,\"msg\":\"later\"}' && exit 1; true\n";
        fs::write(bin.join("fake"), script)?;
        host.run(["chmod", "+x", &bin.join("fake").display().to_string()])?;
        let plugin = json!({"type": "fake", "capabilities": {"mac": true}});
        let chain = Chain::new(
            &bin,
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [plugin, {"type": "fake"}]}),
        )?;
        let web = world.container("web")?.attachment("id", "eth0").with(json!({"mac": "m", "ips": []}));
        chain.add(&host, &web)?;
        let error = chain.check(&host, &web).expect_err("the fake refuses").downcast::<CniError>()?;
        assert_eq!((error.code, error.msg.as_str()), (11, "later"));
        chain.del(&host, &web)?;
        let log = fs::read_to_string(host.run_dir().join("log"))?;
        let expected = "ADD {\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"runtimeConfig\":{\"mac\":\"m\"},\"type\":\"fake\"}\n\
            ADD {\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"prevResult\":{\"cniVersion\":\"1.0.0\"},\"type\":\"fake\"}\n";
        assert!(log.starts_with(expected), "{log}");
        assert_eq!(log.lines().count(), 5);
        Ok(())
    });
}

#[test]
fn a_removed_container_takes_its_links_along() {
    run(|world| {
        let (host, client) = pair(world)?;
        client.remove()?;
        assert!(!client.path().exists());
        assert!(eventually(Duration::from_secs(5), || host.ip_json("link show eth0").is_err()));
        Ok(())
    });
}
