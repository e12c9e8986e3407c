//! The online boutique on the testbed: a shopper's visits through the ingress, and the calls behind it.

mod calls;
mod edges;
mod error;
mod logs;
mod page;
mod plaintext;
mod policies;
mod shopper;
mod strangers;
mod visits;

use std::sync::Arc;

use meshproof::record::{self, Application, Requirement};
use meshproof::{Cluster, Result, Testbed, Workload, cluster};

pub(crate) use calls::{LOAD_GENERATOR, container_of, needed};
pub(crate) use edges::edges;
pub(crate) use error::PageError;
pub(crate) use page::Page;
pub(crate) use plaintext::no_plaintext;
pub(crate) use policies::{log_both_ends, remove_placed, restrict};
pub(crate) use shopper::{Card, Shopper};
pub(crate) use strangers::{still_answered, strangers, under_policies};
pub(crate) use visits::Visitors;

/// Name of the application in the record.
pub(crate) const APPLICATION: &str = "boutique";

/// Requirement of every test of the shop.
pub(crate) const REQUIRED: Requirement = Requirement::Application(APPLICATION);

/// The workload that serves shoppers.
pub(crate) const FRONTEND: &str = "frontend";

/// The application in the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shop<'a> {
    pub(crate) testbed: &'a Testbed,
    application: &'a Application,
}

impl<'a> Shop<'a> {
    /// The shop of a testbed.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared): the record lacks the application, or some of its workloads.
    pub(crate) fn of(testbed: &'a Testbed) -> Result<Self> {
        let missing = |what: String| record::Error::not_declared(what);
        let application = testbed.record.application.as_ref().filter(|application| application.name == APPLICATION);
        let application = application.ok_or_else(|| missing(format!("the application {APPLICATION}")))?;
        let nowhere = calls::workloads().find(|workload| !application.places.contains_key(*workload));
        match nowhere {
            Some(workload) => Err(missing(format!("{workload} of the application {APPLICATION}")).into()),
            None => Ok(Self { testbed, application }),
        }
    }

    /// Namespace of the shop, the same in every cluster.
    pub(crate) fn namespace(self) -> &'a str {
        &self.application.namespace
    }

    /// Host name of the shop at the ingress gateway.
    pub(crate) fn host(self) -> String {
        format!("{FRONTEND}.{}", self.namespace())
    }

    /// Every workload, by name.
    pub(crate) fn workloads(self) -> impl Iterator<Item = &'a str> {
        self.application.places.keys().map(String::as_str)
    }

    /// The workloads of a cluster.
    pub(crate) fn workloads_in(self, cluster: &str) -> Vec<&'a str> {
        let places = self.application.places.iter().filter(|(_, place)| *place == cluster);
        places.map(|(workload, _)| workload.as_str()).collect()
    }

    /// The clusters with a workload of the shop, except the frontend's cluster.
    pub(crate) fn clusters_behind_the_frontend(self) -> Vec<&'a Arc<Cluster>> {
        let frontend = self.application.places.get(FRONTEND);
        let clusters =
            self.testbed.clusters.iter().filter(|cluster| Some(cluster.name()) != frontend.map(String::as_str));
        clusters.filter(|cluster| !self.workloads_in(cluster.name()).is_empty()).collect()
    }

    /// The cluster of a workload.
    ///
    /// # Errors
    /// [`UnknownCluster`](cluster::Error::UnknownCluster), also if the application has no such workload.
    pub(crate) fn cluster_of(self, workload: &str) -> cluster::Result<&'a Arc<Cluster>> {
        self.testbed.cluster(self.application.places.get(workload).map(String::as_str).unwrap_or_default())
    }

    /// The pod of a workload.
    ///
    /// # Errors
    /// The errors of [`Self::cluster_of`]. [`NoPod`](cluster::Error::NoPod): no pod is ready.
    pub(crate) async fn pod(self, workload: &str) -> cluster::Result<Workload> {
        Workload::find(self.cluster_of(workload)?, self.namespace(), &format!("app={workload}")).await
    }

    /// Suffix of a service's name in a call by a workload that is not configured to call the service.
    fn domain(self) -> String {
        let global = self.application.global_namespace.as_ref();
        global.map(|global| format!(".{}", global.domain)).unwrap_or_default()
    }
}
