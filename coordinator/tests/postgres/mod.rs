//! The Postgres that `LAUNCHPAD_TEST_POSTGRES_URL` names (`make test` starts one), a schema a test.

use std::io::Write as _;

use launchpad_coordinator::store::StoreUrl;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::id::IncarnationId;
use launchpad_protocol::time::Clock;

const VARIABLE: &str = "LAUNCHPAD_TEST_POSTGRES_URL";

/// A schema of its own on the server, so that cases run beside each other.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// None, and said so past the test harness, when no server is named.
    pub(crate) async fn new(case: &str) -> Option<Self> {
        let Ok(server) = std::env::var(VARIABLE) else {
            let _ = writeln!(std::io::stderr(), "SKIPPED on Postgres, {VARIABLE} is not set: {case}");
            return None;
        };
        let unique: IncarnationId = Entropy::system().id(Clock::machine().wall());
        let schema = Self { server, name: format!("suite_{}", unique.uuid().simple()) };
        schema.sql(format!("CREATE SCHEMA {}", schema.name)).await;
        Some(schema)
    }

    pub(crate) fn url(&self) -> StoreUrl {
        let separator = if self.server.contains('?') { '&' } else { '?' };
        StoreUrl::Postgres(format!("{}{separator}options=-c%20search_path%3D{}", self.server, self.name))
    }

    pub(crate) async fn remove(self) {
        self.sql(format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }

    async fn sql(&self, statement: String) {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&self.server).await.expect("the server");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await.expect("a statement");
        pool.close().await;
    }
}
