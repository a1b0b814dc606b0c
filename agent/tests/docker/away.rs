//! An engine that goes away and comes back.

use std::collections::BTreeSet;
use std::fs;

use launchpad_agent::execute::{ExecuteError, Eyes as _, Hands as _};

use crate::ground::{self, deploy, on_ground, stop, until};

#[tokio::test]
async fn an_engine_that_goes_away_is_never_taken_for_an_empty_one_and_its_return_is_noticed() {
    on_ground(|ground| async move {
        let spec = ground.bot("");
        let door = Door::before(&ground);
        let host = ground.host_behind(door.socket.clone()).await;
        deploy(&host, &spec).await;
        let before = until(&host, "it runs", |container| container.running_since().is_some()).await;

        let (door_path, listening) = door.close();
        let away = tokio::time::timeout(ground::PATIENCE, async {
            loop {
                match host.observe(&BTreeSet::new()).await {
                    Err(ExecuteError::EngineAway(reason)) => return reason,
                    Err(other) => panic!("{other:?}"),
                    Ok(observed) => assert_eq!(observed.containers.len(), 1, "never without its container"),
                }
                host.changed().await;
            }
        });
        assert_eq!(away.await.unwrap().code, "engine-away");
        let error = host.execute(&stop(&before)).await.unwrap_err();
        assert!(matches!(error, ExecuteError::EngineAway(_)), "{error:?}");
        let neighbours = ground.host_behind(door_path.clone()).await;
        assert!(matches!(neighbours.observe(&BTreeSet::new()).await, Err(ExecuteError::EngineAway(_))));

        let _door = Door::open(door_path, listening);
        let after = tokio::time::timeout(ground::PATIENCE, async {
            loop {
                host.changed().await;
                if let Ok(observed) = host.observe(&BTreeSet::new()).await {
                    return observed;
                }
            }
        });
        assert_eq!(after.await.unwrap().containers[&before.id], before);
    })
    .await;
}

/// A door before the engine's socket that a test can close, as if dockerd had died.
struct Door {
    socket: std::path::PathBuf,
    engine: std::path::PathBuf,
    porter: tokio::task::JoinHandle<()>,
}

impl Door {
    fn before(ground: &ground::Ground) -> Self {
        Self::open(ground.dir.path().join("door.sock"), ground.docker.clone())
    }

    fn open(socket: std::path::PathBuf, engine: std::path::PathBuf) -> Self {
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let beyond = engine.clone();
        let porter = tokio::spawn(async move {
            let mut guests = tokio::task::JoinSet::new();
            while let Ok((mut guest, _)) = listener.accept().await {
                let beyond = beyond.clone();
                guests.spawn(async move {
                    let mut engine = tokio::net::UnixStream::connect(&beyond).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut guest, &mut engine).await;
                });
            }
        });
        Self { socket, engine, porter }
    }

    fn close(self) -> (std::path::PathBuf, std::path::PathBuf) {
        self.porter.abort();
        fs::remove_file(&self.socket).unwrap();
        (self.socket, self.engine)
    }
}
