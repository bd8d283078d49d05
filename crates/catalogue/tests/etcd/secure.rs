//! Certificates and credentials: who may in, and that who may not is told why.

use anyhow::Result;
use netns_fixtures::{World, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use zeugma_catalogue::etcd::{ClientIdentity, Settings, Tls, User};
use zeugma_catalogue::{Error, Health, Kind};

use crate::cluster::{Cluster, inside};
use crate::suite::{changes_of, in_time, key, put, told};
use crate::{await_health, open};

/// A certificate authority.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// A certificate with its key, in PEM.
fn identity(authority: &Authority) -> Result<ClientIdentity> {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()])?;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok(ClientIdentity { certificate: certificate.pem().into(), key: key.serialize_pem().into() })
}

/// An etcd that wants certificates of `authority`, and words with which `etcdctl` shows one.
fn tls_cluster(world: &World, authority: &Authority) -> Result<(Cluster, Vec<String>)> {
    let server = identity(authority)?;
    let file = |name: &str, text: &[u8]| -> Result<String> {
        let path = world.dir().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (ca, cert) = (file("ca", authority.pem().as_bytes())?, file("cert", &server.certificate)?);
    let key = file("key", &server.key)?;
    let option = |name: &str, value: &str| format!("--{name}={value}");
    let words = [option("trusted-ca-file", &ca), option("cert-file", &cert), option("key-file", &key)];
    let mut cluster =
        Cluster::prepare(world, 1, &[words.to_vec(), vec!["--client-cert-auth".into()]].concat())?;
    cluster.run(0)?;
    let client = vec![option("cacert", &ca), option("cert", &cert), option("key", &key)];
    cluster.await_health(&client.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok((cluster, client))
}

fn tls(authority: &Authority, identity: Option<ClientIdentity>) -> Option<Tls> {
    Some(Tls { authority: authority.pem().into(), identity, server_name: None })
}

#[test]
fn with_certificates_of_both_sides_it_works() {
    run(|world| {
        let authority = authority()?;
        let (cluster, _) = tls_cluster(world, &authority)?;
        let ours = tls(&authority, Some(identity(&authority)?));
        inside(&cluster.host, async || {
            let store = open(Settings { tls: ours, ..cluster.settings() });
            let start = put(&store, &key(Kind::Node, "a"), "1").await;
            let mut watch = store.watch(&Kind::ALL, start).await?;
            put(&store, &key(Kind::Node, "a"), "2").await;
            assert_eq!(told(&changes_of(&mut watch, 1).await), ["put nodes/a 2"]);
            Ok(())
        })
    });
}

#[test]
fn without_a_trusted_certificate_on_either_side_nothing_is_read() {
    run(|world| {
        let (ours, strange) = (authority()?, authority()?);
        let (cluster, _) = tls_cluster(world, &ours)?;
        let cases = [
            ("of a strange server", tls(&strange, Some(identity(&ours)?))),
            ("of a strange client", tls(&ours, Some(identity(&strange)?))),
            ("of no client", tls(&ours, None)),
        ];
        inside(&cluster.host, async || {
            for (case, tls) in cases {
                let store = open(Settings { tls, ..cluster.settings() });
                let error = store.get(&key(Kind::Node, "a")).await.unwrap_err();
                assert!(matches!(error, Error::Unavailable { .. }), "{case}: {error}");

                await_health(&store, true).await;
            }
            Ok(())
        })
    });
}

/// Users `root` and `zeugma`, who may do all below `/zeugma/`.
fn with_users(world: &World, more: &[String]) -> Result<Cluster> {
    let mut cluster = Cluster::prepare(world, 1, more)?;
    cluster.run(0)?;
    cluster.await_health(&[])?;
    let words = [
        "user add root:secret",
        "user grant-role root root",
        "role add zeugma",
        "role grant-permission zeugma --prefix=true readwrite /zeugma/",
        "user add zeugma:bridge",
        "user grant-role zeugma zeugma",
        "auth enable",
    ];
    for line in words {
        cluster.etcdctl(&line.split(' ').collect::<Vec<_>>())?;
    }
    Ok(cluster)
}

fn user(name: &str, password: &str) -> Option<User> {
    Some(User { name: name.into(), password: password.into() })
}

#[test]
fn a_user_reads_and_writes_below_the_prefix_and_nowhere_else() {
    run(|world| {
        let cluster = with_users(world, &[])?;
        inside(&cluster.host, async || {
            let settings = Settings { user: user("zeugma", "bridge"), ..cluster.settings() };
            let store = open(settings.clone());
            let start = put(&store, &key(Kind::Node, "a"), "1").await;
            let mut watch = store.watch(&Kind::ALL, start).await?;
            put(&store, &key(Kind::Node, "a"), "2").await;
            assert_eq!(told(&changes_of(&mut watch, 1).await), ["put nodes/a 2"]);
            let elsewhere = open(Settings { prefix: "/other/".into(), ..settings });
            assert!(matches!(elsewhere.list(Kind::Node, "").await, Err(Error::Refused { .. })));
            assert!(matches!(elsewhere.watch(&Kind::ALL, start).await, Err(Error::Refused { .. })));
            Ok(())
        })
    });
}

#[test]
fn a_wrong_password_is_said_to_be_one() {
    run(|world| {
        let cluster = with_users(world, &[])?;
        inside(&cluster.host, async || {
            let store = open(Settings { user: user("zeugma", "wrong"), ..cluster.settings() });
            let error = store.get(&key(Kind::Node, "a")).await.unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            assert!(error.to_string().contains("invalid user ID or password"), "{error}");
            let Health::Degraded { why, .. } = await_health(&store, true).await else { unreachable!() };
            assert!(why.contains("invalid user ID or password"), "{why}");
            let nobody = open(cluster.settings());
            assert!(matches!(nobody.get(&key(Kind::Node, "a")).await, Err(Error::Refused { .. })));
            Ok(())
        })
    });
}

/// A restarted etcd does not know the token any more.
#[test]
fn a_token_that_etcd_forgot_is_got_anew() {
    run(|world| {
        let mut cluster = with_users(world, &[])?;
        let (host, settings) = (cluster.host.clone(), cluster.settings());
        inside(&host, async move || {
            let store = open(Settings { user: user("zeugma", "bridge"), ..settings });
            let start = put(&store, &key(Kind::Node, "a"), "1").await;
            let mut watch = store.watch(&Kind::ALL, start).await?;
            cluster.kill(0);
            await_health(&store, true).await;
            cluster.run(0)?;
            await_health(&store, false).await;
            put(&store, &key(Kind::Node, "a"), "2").await;
            assert_eq!(told(&changes_of(&mut watch, 1).await), ["put nodes/a 2"]);
            in_time(store.health().wait_for(|health| !health.is_degraded())).await?;
            Ok(())
        })
    });
}

/// A signed token says which rights there were when it was made, and etcd takes it no longer when they have changed.
#[test]
fn a_token_of_before_a_change_of_rights_is_got_anew() {
    run(|world| {
        let secret = world.dir().join("secret");
        std::fs::write(&secret, "thirty-two bytes of a test's key")?;
        let token = format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl=1h", secret.display());
        let cluster = with_users(world, &[token])?;
        inside(&cluster.host, async || {
            let store = open(Settings { user: user("zeugma", "bridge"), ..cluster.settings() });
            let start = put(&store, &key(Kind::Node, "a"), "1").await;
            let mut watch = store.watch(&Kind::ALL, start).await?;
            cluster.etcdctl(&["--user", "root:secret", "role", "add", "other"])?;
            put(&store, &key(Kind::Node, "a"), "2").await;
            assert_eq!(told(&changes_of(&mut watch, 1).await), ["put nodes/a 2"]);
            Ok(())
        })
    });
}
