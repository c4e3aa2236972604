//! Every error that a client can meet has a page that says what to do.

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::problem::Kind;

fn pages() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

#[test]
fn every_kind_has_its_page_and_every_page_its_kind() {
    let folder = pages();
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for kind in Kind::ALL {
            std::fs::write(folder.join(format!("{}.md", kind.slug())), kind.page()).unwrap();
        }
    }
    for kind in Kind::ALL {
        let path = folder.join(format!("{}.md", kind.slug()));
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(page, kind.page(), "{} is out of date: run this test with UPDATE_PAGES=1", path.display());
    }
    let written: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".md").to_owned())
        .collect();
    let known: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.slug().to_owned()).collect();
    assert_eq!(written, known);
}

#[test]
fn a_slug_names_one_kind() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_slug(&format!("/errors/{}", kind.slug())), Some(kind));
        assert!((400..600).contains(&kind.status()));
    }
}
