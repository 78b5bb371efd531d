//! A certificate authority, a server's and a client's certificate, made for one test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Where the files are, all PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    server: (PathBuf, PathBuf),
    pub(crate) client: (PathBuf, PathBuf),
}

impl Certificates {
    /// Makes them in a folder; the server's is for `localhost` and 127.0.0.1.
    pub(crate) fn generate(dir: &Path) -> Self {
        let mut params = named("the tests' authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let ca = written(dir, "ca.pem", &issuer.pem());
        let issue = |name: &str, hosts: &[&str]| {
            let key = KeyPair::generate().expect("a key");
            let signed = named(name, hosts).signed_by(&key, &issuer).expect("a certificate");
            let cert = written(dir, &format!("{name}.pem"), &signed.pem());
            (cert, written(dir, &format!("{name}.key"), &key.serialize_pem()))
        };
        Self {
            ca,
            server: issue("server", &["localhost", "127.0.0.1"]),
            client: issue("client", &[]),
        }
    }

    /// The options of a URL for a client that has them.
    pub(crate) fn options(&self) -> String {
        let (cert, key) = &self.client;
        format!("ca={}&cert={}&key={}", self.ca.display(), cert.display(), key.display())
    }

    /// What `redis-cli` takes.
    pub(crate) fn cli_args(&self) -> [String; 7] {
        let text = |path: &Path| path.display().to_string();
        let (cert, key) = &self.client;
        let [tls, ca, client, secret] = ["--tls", "--cacert", "--cert", "--key"].map(str::to_owned);
        [tls, ca, text(&self.ca), client, text(cert), secret, text(key)]
    }

    /// The authority's certificate, the server's, and its key.
    pub(crate) fn server_files(&self) -> [String; 3] {
        let (cert, key) = &self.server;
        [&self.ca, cert, key].map(|path| path.display().to_string())
    }

    /// What `redis-server` takes.
    pub(crate) fn server_args(&self) -> [String; 6] {
        let text = |path: &Path| path.display().to_string();
        let (cert, key) = &self.server;
        let args = ["--tls-ca-cert-file", "--tls-cert-file", "--tls-key-file"];
        let [ca, server, secret] = args.map(str::to_owned);
        [ca, text(&self.ca), server, text(cert), secret, text(key)]
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).expect("host names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("a file in a temporary folder");
    path
}
