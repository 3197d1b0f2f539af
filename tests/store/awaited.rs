//! In flash whose driver is awaited, the store does the same operations in the same order; and to give its future up is to
//! cut the power.

use super::cases::*;
use embedded_storage_async::nor_flash::NorFlash;
use flatmin::flash::{Flash, Partial, poll};
use flatmin::store::{Contents, Description, Store, StoreError};

fn finish<T>(future: impl Future<Output = T>) -> T {
    poll(future, usize::MAX).unwrap()
}

async fn act<F: NorFlash>(change: Change, store: &Store, flash: &mut F) -> Result<(), StoreError> {
    match change {
        Change::Commit(number) => {
            let payload = payload(number);
            let (front, back) = payload.split_at(payload.len() / 3);
            let contents = Contents::Int8;
            let description = Description { pack_crc32: PACK, contents, weights_crc32: number };
            store.commit_async(flash, &description, &[front, &[], back]).await.map(drop)
        }
        Change::RollBack => store.roll_back_async(flash, PACK).await.map(drop),
        Change::Reset => store.factory_reset_async(flash, PACK).await,
    }
}

async fn boot_awaited<F: NorFlash>(store: &Store, flash: &mut F) -> Tail {
    let record = store.recover_async(flash, PACK).await.unwrap().in_force()?;
    let mut payload = vec![0; record.length as usize];
    store.read_async(flash, &record, &mut [&mut payload]).await.unwrap();
    Some(payload)
}

/// The tail left is the old or the new one, and the next commit works.
fn check<const W: usize, const E: usize, const R: usize>(
    store: &Store,
    flash: &mut Flash<W, E, R>,
    allowed: [&Tail; 2],
) {
    let left = finish(boot_awaited(store, flash));
    assert!(allowed.contains(&&left));
    finish(act(Change::Commit(10), store, flash)).unwrap();
    assert_eq!(finish(boot_awaited(store, flash)), Some(payload(10)));
}

/// Every case cut at every operation, beside the same cut of the blocking store; and given up at every wait.
fn compare<const W: usize, const E: usize, const R: usize>(slots: usize) -> (usize, usize) {
    let (store, blank) = pages::<W, E, R>(slots);
    let (mut cuts, mut drops) = (0, 0);
    for blank in [blank.clone(), blank.torn_words_unreadable()] {
        for Case { name, flash, change, old, new } in cases(&store, &blank) {
            let (mut blocking, mut awaited) = (flash.clone(), flash.clone());
            change.act(&store, &mut blocking).unwrap();
            finish(act(change, &store, &mut awaited)).unwrap();
            assert_eq!(awaited.bytes(), blocking.bytes(), "{name}");
            assert_eq!(awaited.operations(), blocking.operations(), "{name}");
            let operations = awaited.operations() - flash.operations();
            for n in 0..operations {
                for partial in [Partial::Clean, Partial::Prefix(128), Partial::Random(n)] {
                    let (mut blocking, mut awaited) = (flash.clone(), flash.clone());
                    blocking.cut_at(n, partial);
                    awaited.cut_at(n, partial);
                    let expected = change.act(&store, &mut blocking);
                    assert_eq!(finish(act(change, &store, &mut awaited)), expected, "{name}: cut at {n}");
                    assert!(awaited.power_on() && blocking.power_on());
                    assert_eq!(awaited.bytes(), blocking.bytes(), "{name}: cut at {n}, {partial:?}");
                    check(&store, &mut awaited, [&old, &new]);
                    cuts += 1;
                }
            }
            for polls in 0.. {
                let mut flash = flash.clone();
                if poll(act(change, &store, &mut flash), polls).is_some() {
                    break;
                }
                check(&store, &mut flash, [&old, &new]);
                drops += 1;
            }
        }
    }
    (cuts, drops)
}

#[test]
fn the_awaited_store_does_the_same_operations() {
    let all = [
        compare::<1, 256, 1>(2),
        compare::<4, 256, 4>(3),
        compare::<8, 2048, 1>(2),
        compare::<32, 4096, 32>(2),
    ];
    let (cuts, drops) = all.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{cuts} cuts, {drops} futures given up");
    assert!(cuts > 10_000 && drops > 1_500, "{cuts}, {drops}");
}
