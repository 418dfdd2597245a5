//! The sink: producers, tickets, back-pressure, drop.

use std::future::Future;
use std::sync::Arc;

use siltstone::vfs::mem::MemVfs;
use siltstone::{Db, Durability, Options, Sink, SinkOptions, WriteBatch, WriteError};

fn in_memory() -> Db {
    Options::new().vfs(Arc::new(MemVfs::new())).segment_len(64 << 10).open("/store").unwrap()
}

#[test]
fn a_ticket_resolves_when_its_records_are_durable() {
    let db = in_memory();
    let sink = Sink::new(db.clone(), SinkOptions::default()).unwrap();
    let commit = sink.put("c", b"k", b"v").unwrap().wait().unwrap();
    assert_eq!(commit.deleted, 0);
    assert_eq!(db.stats().watermark, db.stats().next_seqno);
    assert_eq!(db.get("c", b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn many_producers_lose_nothing_when_the_sink_is_dropped() {
    let db = in_memory();
    let mut options = SinkOptions::default();
    // Far less than what is handed over: producers must wait for the disk.
    options.queue_bytes = 4 << 10;
    options.group_bytes = 1 << 10;
    let sink = Sink::new(db.clone(), options).unwrap();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let sink = sink.clone();
            scope.spawn(move || {
                for i in 0..500 {
                    let mut batch = WriteBatch::new();
                    batch.put("a", format!("{t}-{i}").as_bytes(), &[1; 100]).unwrap();
                    batch.put("b", format!("{t}-{i}").as_bytes(), &[2; 10]).unwrap();
                    drop(sink.write(batch));
                }
            });
        }
    });
    drop(sink);
    assert_eq!((db.len("a"), db.len("b")), (2000, 2000));
    assert_eq!(db.stats().watermark, db.stats().next_seqno, "dropping the sink syncs");
}

#[test]
fn a_full_sink_gives_the_batch_back() {
    let db = in_memory();
    let mut options = SinkOptions::default();
    options.queue_bytes = 1;
    options.group_delay = std::time::Duration::from_secs(60);
    let sink = Sink::new(db.clone(), options).unwrap();
    let mut first = WriteBatch::new();
    first.put("c", b"1", b"v").unwrap();
    // Taken although it is larger than the budget: nothing else is under way.
    let ticket = sink.try_write(first).unwrap();
    let mut second = WriteBatch::new();
    second.put("c", b"2", b"v").unwrap();
    let second = sink.try_write(second).unwrap_err();
    assert_eq!(second.len(), 1);
    drop(sink);
    ticket.wait().unwrap();
    assert_eq!(db.len("c"), 1);
}

#[test]
fn errors_reach_the_ticket() {
    let db = in_memory();
    let sink = Sink::new(db.clone(), SinkOptions::default()).unwrap();
    db.close().unwrap();
    let ticket = sink.put("c", b"k", b"v").unwrap();
    assert!(matches!(ticket.wait(), Err(WriteError::Closed)));
}

/// Drives the durability future under two executors that know nothing of each other.
#[test]
fn the_future_needs_no_runtime_of_its_own() {
    let db = in_memory();
    let write = |key: &'static str| {
        let mut batch = WriteBatch::new();
        batch.put("c", key.as_bytes(), b"v").unwrap();
        db.write_async(batch, Durability::Sync)
    };
    pollster::block_on(write("pollster")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let tasks: Vec<_> = keys.into_iter().map(|key| tokio::spawn(write(key))).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        fn is_send<F: Future + Send + 'static>(_: &F) {}
        let persisted = db.sync_async();
        is_send(&persisted);
        persisted.await.unwrap();
    });
    assert_eq!(db.len("c"), 9);
    assert_eq!(db.stats().watermark, db.stats().next_seqno);
}

/// Goal: a waker that drops the last handle of a store, on the thread that wakes it, hangs nobody.
/// Method: a waker that owns the handle.
#[test]
fn the_last_handle_may_be_dropped_by_a_waker() {
    struct Owner(std::sync::Mutex<Option<Db>>, std::sync::mpsc::Sender<()>);
    impl std::task::Wake for Owner {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            let _ = self.1.send(());
        }
    }
    for _ in 0..50 {
        let db = in_memory();
        let mut batch = WriteBatch::new();
        batch.put("c", b"k", b"v").unwrap();
        let mut pending = db.write_async(batch, Durability::Sync);
        let (sender, woken) = std::sync::mpsc::channel();
        let waker = Arc::new(Owner(std::sync::Mutex::new(Some(db)), sender)).into();
        let mut context = std::task::Context::from_waker(&waker);
        if std::pin::Pin::new(&mut pending).poll(&mut context).is_pending() {
            woken.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        }
    }
}

#[test]
fn a_delay_without_end_waits_for_bytes_only() {
    let db = in_memory();
    let mut options = SinkOptions::default();
    options.group_delay = std::time::Duration::MAX;
    let sink = Sink::new(db.clone(), options).unwrap();
    let ticket = sink.put("c", b"k", b"v").unwrap();
    sink.flush();
    ticket.wait().unwrap();
    assert_eq!(db.len("c"), 1);
}

/// Goal: a large batch gets its turn while small ones keep coming. Method: two producers whose
/// small batches always fit keep the budget in use until the large one is in.
#[test]
fn a_large_batch_is_not_overtaken_for_ever() {
    let db = in_memory();
    let mut options = SinkOptions::default();
    options.queue_bytes = 1 << 10;
    options.group_delay = std::time::Duration::from_millis(1);
    let sink = Sink::new(db.clone(), options).unwrap();
    let is_in = std::sync::atomic::AtomicBool::new(false);
    let overtaken = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let loaded = || is_in.load(std::sync::atomic::Ordering::SeqCst);
                for _ in 0..2_000 {
                    if loaded() {
                        return;
                    }
                    drop(sink.put("small", b"k", &[1; 100]).unwrap());
                    overtaken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        let mut large = WriteBatch::new();
        large.put("large", b"k", &[2; 4 << 10]).unwrap();
        sink.write(large).wait().unwrap();
        is_in.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert!(overtaken.into_inner() < 8_000);
}

/// Goal: dropping the last handle in a waker, on the sink's own thread, does not hang it. Method:
/// a waker that owns the sink, with more groups behind it than may wait for their sync.
#[test]
fn the_last_handle_can_be_dropped_by_a_waker() {
    struct Holds(std::sync::Mutex<Option<Sink>>);
    impl std::task::Wake for Holds {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let db = in_memory();
    let mut options = SinkOptions::default();
    options.group_bytes = 1;
    let sink = Sink::new(db.clone(), options).unwrap();
    let mut first = Box::pin(sink.put("c", b"first", b"v").unwrap());
    let tickets: Vec<_> =
        (0..500u32).map(|i| sink.put("c", &i.to_le_bytes(), b"v").unwrap()).collect();
    let waker = Arc::new(Holds(std::sync::Mutex::new(Some(sink)))).into();
    let _ = first.as_mut().poll(&mut std::task::Context::from_waker(&waker));
    drop(waker);
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(db.len("c"), 501);
}
