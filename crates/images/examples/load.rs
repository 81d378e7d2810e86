//! Loads an archive into a data root, saves it again and removes it, with the time of each: `load DATA_ROOT ARCHIVE [COPY]`.
#![expect(clippy::print_stdout, reason = "a measuring program")]

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cais_images::{RemoveOptions, Store};
use cais_types::ContainerId;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(root), Some(archive)) = (arguments.next(), arguments.next()) else {
        return Err("usage: load DATA_ROOT ARCHIVE [COPY]".into());
    };
    let copy = arguments.next();
    std::fs::create_dir_all(&root)?;
    let db = cais_state::Db::open(&root.join("cais.db"))?;
    let store = Store::open(&root, Arc::new(db))?;
    let start = Instant::now();
    let loaded = store.load(File::open(archive)?, None, &mut |_| {})?;
    println!("load   {:?}", start.elapsed());
    let Some(image) = loaded.first() else {
        return Ok(());
    };
    let container = ContainerId::from_bytes([1; 32]);
    for what in ["create, first", "create"] {
        let start = Instant::now();
        store.create(&container, &image.id)?;
        store.dirs(&container, &image.id)?;
        println!("{what}   {:?}", start.elapsed());
        store.remove(&container)?;
    }
    let start = Instant::now();
    let names = [match image.references.first() {
        Some(name) => name.familiar(),
        None => image.id.to_string(),
    }];
    match copy {
        Some(path) => store.save(&names, None, &mut File::create(path)?)?,
        None => store.save(&names, None, &mut io::sink())?,
    }
    println!("save   {:?}", start.elapsed());
    let start = Instant::now();
    let options = RemoveOptions {
        force: true,
        prune_parents: true,
    };
    store.remove_image(&image.id.to_string(), options, &[])?;
    println!("remove {:?}", start.elapsed());
    Ok(())
}
