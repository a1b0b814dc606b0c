//! The store's suite on SQLite, and what only a file can do wrong.

mod suite;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use launchpad_coordinator::store::{Commit, Intent, OpenError, Store, StoreError, StoreUrl, meta};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::time::Moment;

const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

async fn create(path: &Path) -> Result<Store, OpenError> {
    let store = Store::open(&StoreUrl::Sqlite(path.to_owned()), Intent::Create, NOW).await?;
    let stamped = store.write(Commit::Initialise, async |tx| meta::stamp(tx, Entropy::system().id(NOW)).await).await;
    stamped.expect("a first stamp");
    Ok(store)
}

async fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(&StoreUrl::Sqlite(path.to_owned()), Intent::Use, NOW).await
}

macro_rules! on_sqlite {
    ($($case:ident)*) => {
        $(#[tokio::test]
        async fn $case() {
            let dir = tempfile::tempdir().expect("a directory");
            let store = create(&dir.path().join("coordinator.db")).await.expect("a store");
            suite::$case(store.clone()).await;
            store.close().await;
        })*
    };
}
suite::each_case!(on_sqlite);

#[tokio::test]
async fn a_store_opens_again_with_what_it_held_and_only_its_owner_can_read_it() {
    let dir = tempfile::tempdir().expect("a directory");
    // A path that a URL would read otherwise.
    let path = dir.path().join("a b?c%20d#.db");
    let store = create(&path).await.expect("a store");
    let incarnation = store.read(async |tx| meta::incarnation(tx).await).await.expect("a read");
    for file in std::fs::read_dir(dir.path()).expect("the directory") {
        let file = file.expect("an entry");
        let mode = file.metadata().expect("its bits").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    store.close().await;
    let again = open(&path).await.expect("the store");
    let read = again.read(async |tx| meta::incarnation(tx).await).await.expect("a read");
    assert_eq!(read, incarnation);
}

#[tokio::test]
async fn a_second_init_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    create(&path).await.expect("a store").close().await;
    let before = std::fs::read(&path).expect("the file");
    let refused = create(&path).await.expect_err("there is one");
    assert!(matches!(refused, OpenError::Present { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).expect("the file"), before);
}

#[tokio::test]
async fn serving_before_init_is_refused_and_makes_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    let refused = open(&path).await.expect_err("there is none");
    assert!(refused.to_string().contains("run `launchpad-coordinator init` first"), "{refused}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    let content = b"this is not a database, whatever its name says".repeat(100);
    std::fs::write(&path, &content).expect("a file");
    let refused = open(&path).await.expect_err("no database");
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
    assert!(refused.to_string().contains("coordinator.db is not a database"), "{refused}");
    assert_eq!(std::fs::read(&path).expect("the file"), content);
}

#[tokio::test]
async fn a_database_with_a_torn_page_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    create(&path).await.expect("a store").close().await;
    let mut content = std::fs::read(&path).expect("the file");
    // Everything behind the header of the first page: the schema itself.
    content[100..4096].fill(0xA5);
    std::fs::write(&path, &content).expect("a torn file");
    let refused = open(&path).await.expect_err("damaged");
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let refused = create(&file.join("coordinator.db")).await.expect_err("a file is no directory");
    assert!(matches!(refused, OpenError::Unwritable { .. }), "{refused:?}");
    assert!(refused.to_string().contains("file/coordinator.db cannot be opened for writing"), "{refused}");
}

async fn sql(path: &Path, statement: &'static str) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", path.display());
    let pool = sqlx::AnyPool::connect(&url).await.expect("a connection");
    sqlx::query(statement).execute(&pool).await.expect("a statement");
    pool.close().await;
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_by_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    create(&path).await.expect("a store").close().await;
    sql(&path, "INSERT INTO migrations (number, name, checksum, applied_at) VALUES (999, 'later', x'00', 0)").await;
    let refused = open(&path).await.expect_err("newer").to_string();
    assert!(refused.contains("schema is version 999") && refused.contains("run the newer"), "{refused}");
}

#[tokio::test]
async fn a_migration_that_was_applied_with_another_text_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    create(&path).await.expect("a store").close().await;
    sql(&path, "UPDATE migrations SET checksum = zeroblob(32)").await;
    let refused = open(&path).await.expect_err("another text").to_string();
    assert!(refused.contains("migration 1 (`fleet`) was applied with another text"), "{refused}");
}

#[tokio::test]
async fn a_column_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    create(&path).await.expect("a store").close().await;
    sql(&path, "UPDATE meta SET incarnation = 'nonsense'").await;
    let store = open(&path).await.expect("the store");
    let error = store.read(async |tx| meta::incarnation(tx).await).await.expect_err("unreadable");
    assert!(matches!(error, StoreError::Unreadable(_)), "{error:?}");
    assert!(error.to_string().contains("column `incarnation` is unreadable"), "{error}");
}
