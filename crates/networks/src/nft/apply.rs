//! Brings rule sets and changes into the kernel, each in one transaction.

use std::collections::BTreeSet;

use crate::netlink::{Attributes, DUMP, Messages, NetlinkError, Socket};

use super::encode;
use super::ruleset::{Element, Family, RuleSet};

/// A change of the elements of a set of an existing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Address family of the table.
    pub family: Family,
    /// The set's name.
    pub set: &'static str,
    /// What comes in, or goes out; going out, one that is not there fails the transaction.
    pub elements: Vec<Element>,
    /// Whether they come in.
    pub add: bool,
}

fn commit(socket: &Socket, mut batch: Messages) -> Result<(), NetlinkError> {
    let last = batch.len() - 1;
    encode::end(&mut batch);
    socket.run_acknowledged(&mut batch, last)
}

/// What a table has.
#[derive(Debug, Default)]
struct Contents {
    chains: BTreeSet<String>,
    sets: BTreeSet<String>,
}

impl Contents {
    /// Of a table; nothing when there is none.
    fn of(socket: &Socket, family: Family, table: &str) -> Result<Self, NetlinkError> {
        let chains = names(
            socket,
            family,
            (encode::GETCHAIN, encode::NEWCHAIN),
            |chain| {
                let ours = chain.text(1) == Some(table);
                chain.text(3).filter(|_| ours)
            },
        )?;
        let sets = names(socket, family, (encode::GETSET, encode::NEWSET), |set| {
            let ours = set.text(1) == Some(table);
            let named = set.be32(3).unwrap_or(0) & encode::SET_ANONYMOUS == 0;
            set.text(2).filter(|_| ours && named)
        })?;
        Ok(Self { chains, sets })
    }
}

/// The objects of all tables of a family that have a name to `read`.
fn names(
    socket: &Socket,
    family: Family,
    (get, new): (u16, u16),
    read: impl Fn(Attributes<'_>) -> Option<&str>,
) -> Result<BTreeSet<String>, NetlinkError> {
    let mut batch = Messages::new();
    batch.begin(encode::kind(get), DUMP, &encode::header(family));
    let mut found = BTreeSet::new();
    socket.dump(&mut batch, |message| {
        if message.kind == encode::kind(new) {
            found.extend(read(Attributes::new(message.body, 4)).map(str::to_owned));
        }
    })?;
    Ok(found)
}

/// Puts rule sets in the place of the tables of their names, or makes the tables. Packets see the old rules or the new ones:
/// what both have stays and is filled anew, because a packet that is between two hooks, or between a rule and its map, while
/// a whole table goes and comes, meets neither the old one nor the new one.
///
/// # Errors
/// Those of the kernel; nothing has changed then.
pub fn replace(socket: &Socket, rule_sets: &[RuleSet]) -> Result<(), NetlinkError> {
    let mut batch = Messages::new();
    encode::begin(&mut batch);
    for rules in rule_sets {
        let there = Contents::of(socket, rules.family, &rules.table)?;
        refill(&mut batch, rules, &there);
    }
    commit(socket, batch).or_else(|error| {
        tracing::debug!(%error, "a firewall table of another shape is replaced as a whole");
        let mut batch = Messages::new();
        encode::begin(&mut batch);
        for rules in rule_sets {
            encode::table(&mut batch, rules.family, &rules.table);
            encode::drop_table(&mut batch, rules.family, &rules.table);
            encode::rule_set(&mut batch, rules);
        }
        commit(socket, batch)
    })
}

fn refill(batch: &mut Messages, rules: &RuleSet, there: &Contents) {
    let (family, table) = (rules.family, rules.table.as_str());
    let chains: BTreeSet<&str> = rules.chains.iter().map(|one| one.name.as_str()).collect();
    let sets: BTreeSet<&str> = rules.sets.iter().map(|one| one.name.as_str()).collect();
    encode::table(batch, family, table);
    encode::flush_rules(batch, family, table);
    for set in &there.sets {
        encode::flush_set(batch, (family, table), set);
    }
    encode::rule_set(batch, rules);
    for chain in there
        .chains
        .iter()
        .filter(|name| !chains.contains(name.as_str()))
    {
        encode::drop_chain(batch, (family, table), chain);
    }
    for set in there
        .sets
        .iter()
        .filter(|name| !sets.contains(name.as_str()))
    {
        encode::drop_set(batch, (family, table), set);
    }
}

/// Brings the rule set of a table that is not there yet into the kernel: faster than [`replace`], because nothing goes.
pub fn create(socket: &Socket, rules: &RuleSet) -> Result<(), NetlinkError> {
    let mut batch = Messages::new();
    encode::begin(&mut batch);
    encode::rule_set(&mut batch, rules);
    commit(socket, batch)
}

/// Makes changes to the sets of the tables of this name.
pub fn apply(socket: &Socket, table: &str, changes: &[Change]) -> Result<(), NetlinkError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut batch = Messages::new();
    encode::begin(&mut batch);
    for change in changes {
        let place = (change.family, table);
        encode::elements(&mut batch, place, change.set, &change.elements, change.add);
    }
    commit(socket, batch)
}

/// Removes a table with everything in it; a missing one is no error.
pub fn delete_table(socket: &Socket, family: Family, table: &str) -> Result<(), NetlinkError> {
    let mut batch = Messages::new();
    encode::begin(&mut batch);
    encode::table(&mut batch, family, table);
    encode::drop_table(&mut batch, family, table);
    commit(socket, batch)
}

/// Whether there is a table of this name.
pub fn has_table(socket: &Socket, family: Family, table: &str) -> Result<bool, NetlinkError> {
    let mut batch = Messages::new();
    batch
        .begin(encode::kind(encode::GETTABLE), 0, &encode::header(family))
        .put_str(1, table);
    match socket.get(&mut batch, |_| Some(())) {
        Err(error) if error.is(rustix::io::Errno::NOENT) => Ok(false),
        other => other.map(|found| found.is_some()),
    }
}

/// The base chains of other tables that drop forwarded packets by policy, as `table chain`: no accept of ours can save a
/// packet from them.
pub fn dropping_forward_chains(
    socket: &Socket,
    family: Family,
    own: &str,
) -> Result<Vec<String>, NetlinkError> {
    let mut batch = Messages::new();
    batch.begin(
        encode::kind(encode::GETCHAIN),
        DUMP,
        &encode::header(family),
    );
    let mut found = Vec::new();
    socket.dump(&mut batch, |message| {
        if message.kind == encode::kind(encode::NEWCHAIN) {
            let attributes = Attributes::new(message.body, 4);
            found.extend(dropping(attributes, own));
        }
    })?;
    Ok(found)
}

fn dropping(chain: Attributes<'_>, own: &str) -> Option<String> {
    let table = chain.text(1).filter(|table| *table != own)?;
    let hook = chain.nested(4)?;
    let forwards = hook.be32(1) == Some(2);
    let drops = chain.be32(5) == Some(0);
    (forwards && drops).then(|| format!("{table} {}", chain.text(3).unwrap_or_default()))
}
