//! What every GPU of a machine does now, did before, and should not do.
//!
//! - [`snapshot`](mod@snapshot): a machine at one moment, with what the policy has to say about it;
//! - [`people`]: whose processes those are, and for which project they work;
//! - [`moment`](mod@moment): the same with the leases, and what the driver reported;
//! - [`sampler`]: looks again and again, and tells everybody who listens;
//! - [`alarms`]: what somebody should look at;
//! - [`feed`]: one reader of the driver however many look;
//! - [`serve`]: tells it over HTTP, to browsers, Prometheus and programs;
//! - [`health`]: what is wrong with a GPU that works;
//! - [`history`](mod@history): all of that, kept.
//!
//! **Invariant:** what is not known is absent and has its reason. It is never zero, nothing or idle.

pub mod alarms;
pub mod feed;
pub mod health;
pub mod history;
pub mod moment;
pub mod people;
pub mod sampler;
pub mod serve;
pub mod snapshot;
