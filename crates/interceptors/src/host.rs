//! The `host` interceptor: which machine an event passed through.
//!
//! Name and address are looked up once, when the interceptor is built, as Java's
//! `InetAddress.getLocalHost` does: the machine's own name is resolved, IPv4 before IPv6; the
//! canonical name is what the resolver calls that address, if that name leads back to it.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use flafka_flow::Batch;
use flafka_flow::interceptor::Interceptor;
use flafka_flow::registry::{BuildContext, BuildError, InterceptorFactory, TypeNames};
use tracing::warn;

flafka_flow::settings! {
    /// Sets a header to the address or the name of this machine, looked up once at start. When
    /// the machine's own name cannot be resolved, events pass unchanged and the log says so.
    pub struct HostInterceptorConfig {
        /// Whether an event that has the header keeps its value.
        "preserveExisting" => preserve_existing: bool = false,
        /// `true`: the IP address. `false`: the canonical host name.
        "useIP" => use_ip: bool = true,
        /// Name of the header.
        "hostHeader" => header: String = "host".to_owned(),
    }
}

/// Makes host interceptors.
pub struct HostInterceptorFactory;

impl InterceptorFactory for HostInterceptorFactory {
    type Config = HostInterceptorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("host"),
        also: &[],
        classes: &["org.apache.flume.interceptor.HostInterceptor$Builder"],
    };

    fn build(
        config: HostInterceptorConfig,
        context: &BuildContext,
    ) -> Result<Box<dyn Interceptor>, BuildError> {
        let host = match local_host(config.use_ip) {
            Ok(host) => Some(host),
            Err(error) => {
                warn!(
                    component = context.component,
                    error = %error,
                    "cannot look up this machine's own name, so events get no host header; name it in /etc/hosts"
                );
                None
            }
        };
        Ok(Box::new(HostInterceptor { config, host }))
    }
}

struct HostInterceptor {
    config: HostInterceptorConfig,
    host: Option<String>,
}

impl Interceptor for HostInterceptor {
    fn intercept(&self, batch: Batch) -> Batch {
        let config = &self.config;
        match &self.host {
            Some(host) => crate::set_header(batch, &config.header, host, config.preserve_existing),
            None => batch,
        }
    }
}

fn local_host(use_ip: bool) -> io::Result<String> {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let addresses = addresses_of(&name)?;
    let address = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first())
        .ok_or_else(|| io::Error::other(format!("`{name}` has no address")))?;
    if use_ip {
        return Ok(address.to_string());
    }
    Ok(canonical_name(*address).unwrap_or_else(|| address.to_string()))
}

fn addresses_of(name: &str) -> io::Result<Vec<IpAddr>> {
    let resolved = (name, 0).to_socket_addrs()?;
    Ok(resolved.map(|socket| socket.ip()).collect())
}

fn canonical_name(address: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&address).ok()?;
    let back = addresses_of(&name).ok()?;
    back.contains(&address).then_some(name)
}
