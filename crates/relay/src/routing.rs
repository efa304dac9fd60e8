//! Which way a recipient's mail goes.

use std::cell::RefCell;
use std::collections::HashMap;

use inrush_proto::normalise_domain;

use crate::settings::{RelaySettings, Route};

/// Where to: a route, and the domain where the route goes by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Index of the route.
    pub(crate) route: usize,
    /// In lower case, with A-labels.
    pub(crate) domain: Option<Box<str>>,
}

/// The table of routes. They stay as they are while the relay runs; which domain takes which may change.
#[derive(Debug)]
pub(crate) struct Routing {
    routes: Vec<Route>,
    domains: RefCell<Domains>,
    submission: Option<usize>,
}

/// Which domain takes which route, by index.
#[derive(Debug)]
struct Domains {
    named: HashMap<Box<str>, usize>,
    every: Option<usize>,
    /// For `postmaster` without a domain.
    first: Option<usize>,
}

impl Domains {
    fn new(domains: &[(String, usize)]) -> Self {
        let named = domains.iter().filter(|(name, _)| name != "*");
        Self {
            named: named.map(|(name, route)| (name.clone().into_boxed_str(), *route)).collect(),
            every: domains.iter().find(|(name, _)| name == "*").map(|(_, route)| *route),
            first: domains.first().map(|(_, route)| *route),
        }
    }
}

impl Routing {
    pub(crate) fn new(settings: &RelaySettings) -> Self {
        Self {
            routes: settings.routes.clone(),
            domains: RefCell::new(Domains::new(&settings.domains)),
            submission: settings.submission,
        }
    }

    /// From now on each of these domains takes the route with this index, and no other domain has one.
    pub(crate) fn set_domains(&self, domains: &[(String, usize)]) {
        self.domains.replace(Domains::new(domains));
    }

    pub(crate) fn route(&self, index: usize) -> &Route {
        &self.routes[index]
    }

    /// Index of the route with this name.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.routes.iter().position(|route| route.name == name)
    }

    /// The way to the recipient `path`; `None` when no route takes it.
    pub(crate) fn find(&self, path: &[u8]) -> Option<Target> {
        let path = std::str::from_utf8(path).ok()?;
        let domains = self.domains.borrow();
        // The local part may hold an `@` between quotes, the domain cannot.
        let Some((_, domain)) = path.rsplit_once('@') else {
            // RFC 5321 §4.5.1: postmaster without a domain is ours, whatever that is.
            return domains.every.or(domains.first).map(|route| Target { route, domain: None });
        };
        let mut name = String::with_capacity(domain.len());
        normalise_domain(domain, &mut name);
        let named = domains.named.get(name.as_str()).copied();
        let route = named.or(domains.every).or(self.submission)?;
        Some(self.target(route, name))
    }

    /// The way to a recipient by a route that was chosen for it.
    pub(crate) fn by(&self, route: usize, path: &[u8]) -> Target {
        let path = String::from_utf8_lossy(path);
        let mut name = String::new();
        if let Some((_, domain)) = path.rsplit_once('@') {
            normalise_domain(domain, &mut name);
        }
        self.target(route, name)
    }

    fn target(&self, route: usize, domain: String) -> Target {
        let by_domain = self.routes[route].kind.goes_by_domain();
        Target { route, domain: by_domain.then(|| domain.into_boxed_str()) }
    }

    /// The name that the outcome log keeps: the route's, and behind a colon the domain where the route goes by it.
    pub(crate) fn name(&self, target: &Target) -> Vec<u8> {
        let mut name = self.routes[target.route].name.clone().into_bytes();
        if let Some(domain) = &target.domain {
            name.push(b':');
            name.extend_from_slice(domain.as_bytes());
        }
        name
    }

    /// The way that has this name; `None` when its route is there no more.
    pub(crate) fn parse(&self, name: &[u8]) -> Option<Target> {
        let name = std::str::from_utf8(name).ok()?;
        let (route, domain) = match name.split_once(':') {
            Some((route, domain)) => (route, Some(domain)),
            None => (name, None),
        };
        let route = self.named(route)?;
        let by_domain = self.routes[route].kind.goes_by_domain();
        (by_domain == domain.is_some()).then(|| Target { route, domain: domain.map(Into::into) })
    }
}
