//! The store's suite on a real Postgres, named by `LAUNCHPAD_TEST_POSTGRES_URL` (`make test` starts one). Without it
//! each case says that it was skipped.

mod postgres;
mod suite;

use futures::future::join_all;
use launchpad_coordinator::store::{Commit, Intent, OpenError, Store, StoreUrl, meta};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::time::Moment;
use postgres::Schema;

const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

impl Schema {
    async fn create(&self) -> Result<Store, OpenError> {
        let store = Store::open(&self.url(), Intent::Create, NOW).await?;
        let stamp = async |tx: &mut _| meta::stamp(tx, Entropy::system().id(NOW)).await;
        store.write(Commit::Initialise, stamp).await.expect("a first stamp");
        Ok(store)
    }
}

macro_rules! on_postgres {
    ($($case:ident)*) => {
        $(#[tokio::test]
        async fn $case() {
            let Some(schema) = Schema::new(stringify!($case)).await else { return };
            let store = schema.create().await.expect("a store");
            suite::$case(store.clone()).await;
            store.close().await;
            schema.remove().await;
        })*
    };
}
suite::each_case!(on_postgres);

#[tokio::test]
async fn a_second_init_and_serving_before_the_first_are_refused() {
    let Some(schema) = Schema::new("a_second_init_and_serving_before_the_first_are_refused").await else { return };
    let early = Store::open(&schema.url(), Intent::Use, NOW).await.expect_err("there is none");
    assert!(matches!(early, OpenError::Absent { .. }), "{early:?}");
    schema.create().await.expect("a store").close().await;
    let again = schema.create().await.expect_err("there is one");
    assert!(matches!(again, OpenError::Present { .. }), "{again:?}");
    schema.remove().await;
}

#[tokio::test]
async fn two_replicas_share_one_line_of_writers() {
    let Some(schema) = Schema::new("two_replicas_share_one_line_of_writers").await else { return };
    let one = schema.create().await.expect("a store");
    let other = Store::open(&schema.url(), Intent::Use, NOW).await.expect("the same store");
    suite::two_stores_lose_no_update(&one, &other).await;
    one.close().await;
    other.close().await;
    schema.remove().await;
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let Some(schema) = Schema::new("replicas_that_start_together_migrate_once").await else { return };
    let url = schema.url();
    // Nothing is stamped, so that each is as welcome as the first.
    let opened = join_all((0..6).map(|_| Store::open(&url, Intent::Create, NOW))).await;
    for store in opened {
        store.expect("a store").close().await;
    }
    schema.remove().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_named_without_its_password() {
    // Port 1 is nobody's: connections are refused at once.
    let url = StoreUrl::Postgres("postgres://me:geheim@127.0.0.1:1/launchpad".to_owned());
    let refused = Store::open(&url, Intent::Use, NOW).await.expect_err("nobody is there");
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("postgres://127.0.0.1:1/launchpad cannot be reached") && !text.contains("geheim"),
        "{text}"
    );
}
