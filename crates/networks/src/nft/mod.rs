//! Firewall rule sets as data: built, printed as `nft list ruleset` prints them, and applied to the kernel in one
//! transaction. Knows nf_tables only, no networks and no ports.

pub mod apply;
mod changes;
mod display;
mod encode;
mod expression;
pub mod ruleset;

pub use apply::{Change, apply, create, delete_table, dropping_forward_chains, has_table, replace};
pub use changes::Changes;
pub use ruleset::{
    Atom, Chain, DataType, Element, Family, Field, Hook, HookKind, HookPoint, Outcome, RuleSet,
    Set, SetValue, Side, Statement, Verdict, rule,
};
