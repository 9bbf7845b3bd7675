//! Sessions with a driver that fails as it is told: results are those of the CPU path, to the bit,
//! and the report says what happened.

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bantam_delegate::{
    Action, Check, Deadline, DriverError, Economy, OffloadError, OffloadOptions, Options, Placed,
    Session, SessionError, Steering, Timed,
};
use bantam_model::cpu::RunError;
use bantam_model::ops::{self, Custom, Op};
use bantam_model::target::Which;
use bantam_model::tensor::DType;
use bantam_model::{Model, Node, Subgraph, Tensor, TensorId};
use proptest::prelude::*;

use fake::{Fake, Fault};

const LEN: usize = 4;

fn bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// int32 tensors of four elements: tensor 0 is the input, tensor 1 a constant; operator `i` adds
/// (or, where `i` is odd, subtracts) two of the tensors before it.
fn sums(operands: &[(u32, u32)], outputs: &[u32]) -> Model {
    let mut s = Subgraph::default();
    let x = s.add_tensor(Tensor::new("x", DType::I32, [LEN]));
    let data = bytes(&[1, 20, 300, -4000]);
    s.add_tensor(Tensor::constant("c", DType::I32, [LEN], data));
    for (index, &(a, b)) in operands.iter().enumerate() {
        let result = s.add_tensor(Tensor::new(format!("t{index}"), DType::I32, [LEN]));
        let operands = [TensorId(a), TensorId(b)];
        s.nodes.push(match index % 2 {
            0 => Node::new(ops::Add::default(), &operands, &[result]),
            _ => Node::new(ops::Sub::default(), &operands, &[result]),
        });
    }
    s.inputs = vec![x];
    s.outputs = outputs.iter().map(|&id| TensorId(id)).collect();
    Model {
        subgraphs: vec![s],
        ..Model::default()
    }
}

fn is_add(node: &Node) -> bool {
    matches!(node.op, Op::Add(_))
}

fn is_any(_: &Node) -> bool {
    true
}

fn is_at(places: &'static [u32]) -> impl Fn(&Node) -> bool {
    // Operator `i` of `sums` computes tensor `i + 2`.
    move |node: &Node| places.iter().any(|place| node.outputs[0].0 == place + 2)
}

fn options(offload: OffloadOptions) -> Options {
    Options {
        offload,
        ..Options::default()
    }
}

fn late(ms: u64) -> OffloadOptions {
    OffloadOptions {
        deadline: Some(Deadline::new(Duration::from_millis(ms))),
        ..OffloadOptions::default()
    }
}

fn open(model: &Model, fake: Fake, offload: OffloadOptions) -> (Session, Arc<Fake>) {
    let fake = Arc::new(fake);
    let session = Session::with_driver(model, fake.clone(), &options(offload));
    (session.unwrap(), fake)
}

fn results(session: &mut Session, x: &[u8]) -> Vec<Vec<u8>> {
    session.set_input(0, x).unwrap();
    session.run().unwrap();
    (0..session.outputs().len())
        .map(|index| session.output(index).to_vec())
        .collect()
}

fn plain(model: &Model, x: &[u8]) -> Vec<Vec<u8>> {
    results(&mut Session::new(model, &Options::default()).unwrap(), x)
}

fn actions(session: &Session) -> Vec<Action> {
    let report = session.report();
    report.events.iter().map(|event| event.action).collect()
}

/// `((x + c) - c) + x`: an ADD, a SUB, an ADD.
fn three() -> Model {
    sums(&[(0, 1), (2, 1), (3, 0)], &[4])
}

#[test]
fn the_placement_says_where_each_operator_runs_and_why() {
    let (mut session, _) = open(&three(), Fake::new(is_add), OffloadOptions::default());
    let placement = session.placement().clone();
    assert_eq!(
        placement.to_string(),
        "2 of 3 ops on fake in 2 partitions; 1 on the CPU path: SUB 1: a fake takes no SUB"
    );
    let placed: Vec<Placed> = placement.nodes.iter().map(|node| node.placed).collect();
    assert_eq!(
        placed,
        [Placed::Partition(0), Placed::Cpu, Placed::Partition(1)]
    );
    assert_eq!(placement.nodes[1].rule(), Some("fake-rule"));
    let second = &placement.partitions[1];
    assert_eq!((&second.ops[..], second.has_twin), (&[2][..], true));
    assert_eq!(
        (&second.inputs[..], &second.outputs[..]),
        (&["t1".into(), "x".into()][..], &["t2".into()][..])
    );
    assert_eq!(second.cost.transfer_bytes, 48);
    assert_eq!(second.driver_cost, [("cycles".to_owned(), 7.0)]);
    let x = bytes(&[5, 6, 7, 8]);
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    let report = session.report();
    assert_eq!(report.to_string(), "");
    assert!(
        report
            .counters
            .iter()
            .all(|c| (c.runs, c.delegated) == (1, 1))
    );
}

#[test]
fn one_failure_is_repeated_on_a_device_that_is_opened_again() {
    for fault in [Fault::Fail, Fault::LoseDevice, Fault::Panic] {
        let (mut session, fake) = open(&three(), Fake::new(is_any), OffloadOptions::default());
        fake.script([fault]);
        let x = bytes(&[1, 2, 3, 4]);
        assert_eq!(results(&mut session, &x), plain(&three(), &x));
        assert_eq!(actions(&session), [Action::Retried]);
        let counters = session.report().counters[0];
        assert_eq!(
            (counters.delegated, counters.reopened, counters.failed_calls),
            (1, 1, 1)
        );
        assert_eq!(fake.shared.compiled.lock().unwrap().len(), 2);
    }
}

#[test]
fn two_failures_are_a_run_on_the_cpu_and_three_such_runs_the_last_calls() {
    let (mut session, fake) = open(&three(), Fake::new(is_any), OffloadOptions::default());
    fake.script([Fault::Fail; 100]);
    let x = bytes(&[1, 2, 3, 4]);
    for _ in 0..5 {
        assert_eq!(results(&mut session, &x), plain(&three(), &x));
    }
    let wanted = [
        Action::Retried,
        Action::FellBack,
        Action::FellBack,
        Action::Retired,
    ];
    assert_eq!(actions(&session), wanted);
    let counters = session.report().counters[0];
    assert_eq!(
        (counters.runs, counters.on_cpu, counters.retired),
        (5, 5, true)
    );
    assert_eq!(fake.shared.calls.load(Ordering::SeqCst), 4);
    assert!(session.report().to_string().starts_with(
        "4 calls of the driver failed and 0 results were wrong; 5 of 5 results of partitions came from the CPU path; the first failure: partition 0, run 1: the driver failed: told to"
    ));
}

#[test]
fn a_device_that_is_gone_for_good_loses_nothing() {
    let (mut session, fake) = open(&three(), Fake::new(is_any), OffloadOptions::default());
    fake.script([Fault::LoseDevice]);
    *fake.shared.compile_fails.lock().unwrap() = Some(DriverError::DeviceLost("unplugged".into()));
    let x = bytes(&[1, 2, 3, 4]);
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    *fake.shared.compile_fails.lock().unwrap() = None;
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    let counters = session.report().counters[0];
    assert_eq!((counters.on_cpu, counters.delegated), (1, 1));
}

#[test]
fn a_call_that_hangs_is_given_up_and_what_it_writes_later_is_not_seen() {
    let (mut session, fake) = open(&three(), Fake::new(is_any), late(40));
    fake.script([Fault::Hang(300), Fault::Hang(300)]);
    let x = bytes(&[1, 2, 3, 4]);
    let start = Instant::now();
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    assert!(start.elapsed() < Duration::from_millis(280));
    let report = session.report();
    assert_eq!(actions(&session), [Action::Retried, Action::FellBack]);
    assert_eq!(report.counters[0].late_calls, 2);
    assert_eq!(
        report.events[0].error,
        DriverError::Deadline { milliseconds: 40 }
    );
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(session.output(0), plain(&three(), &x)[0]);
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    assert_eq!(session.report().counters[0].delegated, 1);
}

#[test]
fn a_driver_that_can_cancel_is_told_to() {
    let mut fake = Fake::new(is_any);
    fake.can_cancel = true;
    let (mut session, fake) = open(&three(), fake, late(40));
    fake.script([Fault::Hang(60_000)]);
    let x = bytes(&[1, 2, 3, 4]);
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    assert_eq!(fake.shared.running.load(Ordering::SeqCst), 0);
    assert_eq!(session.report().counters[0].delegated, 1);
}

#[test]
fn a_device_is_closed_before_it_is_opened_again_and_when_the_session_ends() {
    for offload in [OffloadOptions::default(), late(40)] {
        let mut fake = Fake::new(is_any);
        fake.can_cancel = true;
        fake.shared.close_ms.store(5, Ordering::SeqCst);
        let has_deadline = offload.deadline.is_some();
        let (mut session, fake) = open(&three(), fake, offload);
        fake.script([Fault::Fail, Fault::None, Fault::LoseDevice, Fault::Fail]);
        if has_deadline {
            fake.script([Fault::Hang(60_000)]);
        }
        let x = bytes(&[1, 2, 3, 4]);
        for _ in 0..4 {
            assert_eq!(results(&mut session, &x), plain(&three(), &x));
        }
        drop(session);
        assert_eq!(fake.shared.most_open.load(Ordering::SeqCst), 1);
        assert_eq!(fake.shared.open.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn results_that_are_checked_and_wrong_are_those_of_the_cpu() {
    let check = |check| OffloadOptions {
        check,
        ..OffloadOptions::default()
    };
    let x = bytes(&[1, 2, 3, 4]);
    let first = Check { first: 2, every: 0 };
    let (mut session, fake) = open(&three(), Fake::new(is_any), check(first));
    fake.script([Fault::None, Fault::Garbage, Fault::Garbage]);
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    assert_eq!(results(&mut session, &x), plain(&three(), &x));
    let counters = session.report().counters[0];
    assert_eq!((counters.checked, counters.wrong), (2, 1));
    assert_eq!((counters.delegated, counters.on_cpu), (1, 1));
    assert!(matches!(
        session.report().events[0].error,
        DriverError::Garbage(_)
    ));
    // Nobody looks at the third run.
    assert_ne!(results(&mut session, &x), plain(&three(), &x));

    let every = Check { first: 0, every: 2 };
    let (mut session, fake) = open(&three(), Fake::new(is_any), check(every));
    fake.script([Fault::None, Fault::Garbage]);
    for _ in 0..5 {
        assert_eq!(results(&mut session, &x), plain(&three(), &x));
    }
    assert_eq!(session.report().counters[0].checked, 2);
}

#[test]
fn full_delegation_is_required_when_opened_and_in_every_run() {
    let required = OffloadOptions {
        requires_full_delegation: true,
        ..OffloadOptions::default()
    };
    let refused = Session::with_driver(
        &three(),
        Arc::new(Fake::new(is_add)),
        &options(required.clone()),
    );
    let Err(SessionError::NotDelegated(placement)) = refused else {
        panic!("a SUB is on the CPU path");
    };
    assert_eq!(placement.delegated, 2);
    let on_cpu = Session::new(&three(), &options(required.clone()));
    assert!(matches!(on_cpu, Err(SessionError::NotDelegated(_))));
    let (mut session, fake) = open(&three(), Fake::new(is_any), required);
    assert_eq!(
        session.placement().to_string(),
        "3 of 3 ops on fake in 1 partition"
    );
    fake.script([Fault::Fail, Fault::Fail]);
    let Err(RunError::Custom { source, .. }) = session.run() else {
        panic!("the run fell back");
    };
    assert!(matches!(
        source.reason(),
        Some(OffloadError::Required { partition: 0, .. })
    ));
    assert_eq!(actions(&session), [Action::Retried, Action::Failed]);
    assert!(session.run().is_ok());
    let counters = session.report().counters[0];
    assert_eq!(
        (counters.runs, counters.lost, counters.delegated),
        (2, 1, 1)
    );
}

/// `edgetpu-custom-op(x + x) + 1...`, all uint8.
fn precompiled(name: &str) -> Model {
    let mut s = Subgraph::default();
    let x = s.add_tensor(Tensor::new("x", DType::I32, [LEN]));
    let sum = s.add_tensor(Tensor::new("sum", DType::I32, [LEN]));
    let y = s.add_tensor(Tensor::new("y", DType::I32, [LEN]));
    let z = s.add_tensor(Tensor::new("z", DType::I32, [LEN]));
    let custom = Op::Custom(Box::new(Custom {
        name: name.into(),
        version: 1,
        options: vec![1, 2, 3].into(),
    }));
    s.nodes = vec![
        Node::new(ops::Add::default(), &[x, x], &[sum]),
        Node::new(custom, &[sum], &[y]),
        Node::new(ops::Add::default(), &[y, x], &[z]),
    ];
    (s.inputs, s.outputs) = (vec![x], vec![z]);
    Model {
        subgraphs: vec![s],
        ..Model::default()
    }
}

#[test]
fn an_operator_of_a_vendor_is_a_partition_without_a_twin() {
    let model = precompiled("edgetpu-custom-op");
    let is_custom = |node: &Node| matches!(node.op, Op::Custom(_));
    let (mut session, fake) = open(&model, Fake::new(is_custom), OffloadOptions::default());
    assert!(!session.placement().partitions[0].has_twin);
    let y = results(&mut session, &bytes(&[0, 1, 2, 3]));
    let plus = 0x0101_0101;
    assert_eq!(y[0], bytes(&[plus, plus + 3, plus + 6, plus + 9]));
    fake.script([Fault::Fail; 2]);
    let Err(RunError::Custom {
        source, index: 1, ..
    }) = session.run()
    else {
        panic!("operator 1 has no twin");
    };
    assert!(matches!(source.reason(), Some(OffloadError::NoTwin { .. })));
}

#[test]
fn an_operator_of_a_vendor_says_which_driver_it_needs() {
    let model = precompiled("edgetpu-custom-op");
    let wanted =
        "operator edgetpu-custom-op runs on an Edge TPU (driver edgetpu) alone, and the driver is";
    let error = Session::new(&model, &Options::default()).err().unwrap();
    assert_eq!(error.to_string(), format!("{wanted} cpu"));
    let fake = Arc::new(Fake::new(is_add));
    let error = Session::with_driver(&model, fake, &Options::default())
        .err()
        .unwrap();
    assert_eq!(error.to_string(), format!("{wanted} fake"));
    let error = Session::new(&precompiled("Mine"), &Options::default())
        .err()
        .unwrap();
    assert!(matches!(error, SessionError::Run(_)));
    let fake = Arc::new(Fake::new(is_add));
    let error = Session::with_driver(&precompiled("Mine"), fake, &Options::default());
    assert!(matches!(
        error,
        Err(SessionError::Driver {
            source: DriverError::Refused(_),
            ..
        })
    ));
}

#[test]
fn a_partition_that_is_refused_when_compiled_is_on_the_cpu_and_says_so() {
    let fake = Fake::new(is_any);
    *fake.shared.compile_fails.lock().unwrap() = Some(DriverError::Refused("too large".into()));
    let (session, _) = open(&three(), fake, OffloadOptions::default());
    assert_eq!(
        session.placement().to_string(),
        "0 of 3 ops on fake; 3 on the CPU path: ADD 0: the driver refused its partition: too large"
    );
    let fake = Fake::new(is_any);
    let lost = DriverError::DeviceLost("unplugged".into());
    *fake.shared.compile_fails.lock().unwrap() = Some(lost);
    let error = Session::with_driver(&three(), Arc::new(fake), &Options::default());
    assert!(matches!(error, Err(SessionError::Driver { .. })));
}

#[test]
fn the_user_steers_the_cut() {
    let steered = |steering: Steering, which| {
        let mut fake = Fake::new(is_any);
        fake.policy.which = which;
        let offload = OffloadOptions {
            steering,
            ..OffloadOptions::default()
        };
        let (mut session, _) = open(&three(), fake, offload);
        let x = bytes(&[1, 2, 3, 4]);
        assert_eq!(results(&mut session, &x), plain(&three(), &x));
        session.placement().to_string()
    };
    let selectors = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let deny = Steering {
        deny: selectors(&["op:SUB"]),
        ..Steering::default()
    };
    assert_eq!(
        steered(deny.clone(), Which::All),
        "2 of 3 ops on fake in 2 partitions; 1 on the CPU path: SUB 1: it is denied by op:SUB"
    );
    assert_eq!(
        steered(deny, Which::First),
        "1 of 3 ops on fake in 1 partition; 2 on the CPU path: SUB 1: it is denied by op:SUB"
    );
    let allow = Steering {
        allow: selectors(&["tensor:^t[12]$"]),
        ..Steering::default()
    };
    assert!(steered(allow, Which::All).starts_with("2 of 3 ops on fake in 1 partition;"));
    let large = Steering {
        min_ops: Some(4),
        ..Steering::default()
    };
    assert!(
        steered(large, Which::All).contains("its partition of 3 is smaller than the least of 4")
    );
    let economy = Steering {
        economy: Some(Economy::default()),
        ..Steering::default()
    };
    assert!(
        steered(economy, Which::All).contains("moving the data of its partition takes about 50 us")
    );
}

#[test]
fn a_model_that_is_one_partition_runs_on_the_callers_memory() {
    let (mut session, fake) = open(&three(), Fake::new(is_any), OffloadOptions::default());
    let x = bytes(&[1, 2, 3, 4]);
    let mut y = vec![0; 4 * LEN];
    session.run_with(&[&x], &mut [&mut y]).unwrap();
    assert_eq!(y, plain(&three(), &x)[0]);
    assert_eq!(
        fake.shared.operands.lock().unwrap()[..],
        [x.as_ptr() as usize]
    );
    assert!(session.run_with(&[&x[1..]], &mut [&mut y]).is_err());
    assert!(session.run_with(&[], &mut [&mut y]).is_err());
    assert!(session.run_with(&[&x], &mut [&mut y[1..]]).is_err());
    let (mut session, _) = open(&three(), Fake::new(is_add), OffloadOptions::default());
    y.fill(0);
    session.run_with(&[&x], &mut [&mut y]).unwrap();
    assert_eq!(y, plain(&three(), &x)[0]);
}

/// Two branches of the input: operators 0 and 2 are one, operators 1 and 3 the other; 4 joins them.
fn branches() -> Model {
    sums(&[(0, 1), (0, 1), (2, 0), (3, 0), (4, 5)], &[6])
}

#[test]
fn other_operators_run_while_the_driver_works() {
    let model = branches();
    let fake = Fake::new(is_at(&[0, 2]));
    let (mut session, _) = open(&model, fake, late(2000));
    let mut order = Vec::new();
    let x = bytes(&[1, 2, 3, 4]);
    session.set_input(0, &x).unwrap();
    session.run_timed(|what, _| order.push(what)).unwrap();
    let op = |index| Timed::Op { subgraph: 0, index };
    let wanted = [
        Timed::Partition(0),
        op(1),
        op(3),
        Timed::Partition(0),
        op(4),
    ];
    assert_eq!(order, wanted);
    assert_eq!(session.output(0), plain(&model, &x)[0]);
    // Without other work, or without a thread, it is one call.
    let (mut session, _) = open(&model, Fake::new(is_at(&[0, 2])), OffloadOptions::default());
    order.clear();
    session.run_timed(|what, _| order.push(what)).unwrap();
    assert_eq!(
        order
            .iter()
            .filter(|&&what| what == Timed::Partition(0))
            .count(),
        1
    );
}

#[test]
fn failures_between_the_halves_of_a_call_lose_nothing() {
    let model = branches();
    let (mut session, fake) = open(&model, Fake::new(is_at(&[0, 2])), late(30));
    let x = bytes(&[1, 2, 3, 4]);
    let faults = [
        Fault::Fail,
        Fault::Fail,
        Fault::Hang(200),
        Fault::Hang(200),
        Fault::None,
    ];
    fake.script(faults);
    for _ in 0..4 {
        assert_eq!(results(&mut session, &x), plain(&model, &x));
    }
    let counters = session.report().counters[0];
    assert_eq!(
        (counters.runs, counters.delegated + counters.on_cpu),
        (4, 4)
    );
    assert_eq!(counters.failed_calls, 4);
}

#[test]
fn partitions_go_to_the_devices_one_after_the_other() {
    let devices = ["fake:0", "fake:1"].map(str::to_owned);
    let offload = OffloadOptions {
        devices: devices.to_vec(),
        ..OffloadOptions::default()
    };
    let model = sums(&[(0, 1), (2, 1), (3, 0), (4, 1), (5, 1)], &[6]);
    let (mut session, fake) = open(&model, Fake::new(is_add), offload);
    let x = bytes(&[1, 2, 3, 4]);
    assert_eq!(results(&mut session, &x), plain(&model, &x));
    let compiled = fake.shared.compiled.lock().unwrap();
    let used: Vec<&str> = compiled
        .iter()
        .map(|(device, _)| device.as_deref().unwrap())
        .collect();
    assert_eq!(used, ["fake:0", "fake:1", "fake:0"]);
    assert_eq!(
        session.placement().partitions[1].device.as_deref(),
        Some("fake:1")
    );
}

#[test]
fn sessions_on_one_driver_run_at_the_same_time() {
    let fake = Arc::new(Fake::new(is_any));
    fake.shared.takes_ms.store(50, Ordering::SeqCst);
    let model = three();
    std::thread::scope(|scope| {
        for device in ["fake:0", "fake:1"] {
            let (fake, model) = (fake.clone(), &model);
            scope.spawn(move || {
                let offload = OffloadOptions {
                    devices: vec![device.into()],
                    ..OffloadOptions::default()
                };
                let mut session = Session::with_driver(model, fake, &options(offload)).unwrap();
                for number in 0..4 {
                    let x = bytes(&[number; LEN]);
                    assert_eq!(results(&mut session, &x), plain(model, &x));
                }
            });
        }
    });
    assert_eq!(fake.shared.most_running.load(Ordering::SeqCst), 2);
}

#[test]
fn operators_of_a_loop_are_partitions_too() {
    // while (i < 10) { i = i + step; sum = (sum + i) - step }
    let scalar = |s: &mut Subgraph, name: &str| s.add_tensor(Tensor::new(name, DType::I32, [1]));
    let mut condition = Subgraph::default();
    let i = scalar(&mut condition, "i");
    let sum = scalar(&mut condition, "sum");
    let ten = condition.add_tensor(Tensor::constant("ten", DType::I32, [1], bytes(&[10])));
    let go = condition.add_tensor(Tensor::new("go", DType::Bool, [1]));
    condition.nodes = vec![Node::new(ops::Less, &[i, ten], &[go])];
    (condition.inputs, condition.outputs) = (vec![i, sum], vec![go]);
    let mut body = Subgraph::default();
    let i = scalar(&mut body, "i");
    let sum = scalar(&mut body, "sum");
    let step = body.add_tensor(Tensor::constant("step", DType::I32, [1], bytes(&[3])));
    let next = scalar(&mut body, "next");
    let more = scalar(&mut body, "more");
    let less = scalar(&mut body, "less");
    body.nodes = vec![
        Node::new(ops::Add::default(), &[i, step], &[next]),
        Node::new(ops::Add::default(), &[sum, next], &[more]),
        Node::new(ops::Sub::default(), &[more, step], &[less]),
    ];
    (body.inputs, body.outputs) = (vec![i, sum], vec![next, less]);
    let mut main = Subgraph::default();
    let i = scalar(&mut main, "i");
    let zero = main.add_tensor(Tensor::constant("zero", DType::I32, [1], bytes(&[0])));
    let (last, result) = (scalar(&mut main, "last"), scalar(&mut main, "result"));
    let op = ops::While {
        condition: 1,
        body: 2,
    };
    main.nodes = vec![Node::new(op, &[i, zero], &[last, result])];
    (main.inputs, main.outputs) = (vec![i], vec![last, result]);
    let model = Model {
        subgraphs: vec![main, condition, body],
        ..Model::default()
    };
    for offload in [OffloadOptions::default(), late(1000)] {
        let (mut session, fake) = open(&model, Fake::new(is_add), offload);
        let partition = &session.placement().partitions[0];
        assert_eq!((partition.subgraph, &partition.ops[..]), (2, &[0, 1][..]));
        fake.script([Fault::None, Fault::Fail, Fault::Fail]);
        for start in [1, 8, 30] {
            let x = bytes(&[start]);
            assert_eq!(results(&mut session, &x), plain(&model, &x));
        }
        let counters = session.report().counters[0];
        // Three rounds from 1, one from 8, none from 30.
        assert_eq!((counters.runs, counters.on_cpu), (4, 1));
        let mut whole =
            Session::with_driver(&model, Arc::new(Fake::new(is_any)), &Options::default()).unwrap();
        assert_eq!(
            whole.placement().to_string(),
            "5 of 5 ops on fake in 1 partition"
        );
        let x = bytes(&[2]);
        assert_eq!(results(&mut whole, &x), plain(&model, &x));
    }
}

#[test]
fn variables_stay_on_the_cpu_and_keep_their_order() {
    // The variable is read, then assigned x + what was read, then read again.
    let mut s = Subgraph::default();
    let x = s.add_tensor(Tensor::new("x", DType::I32, [LEN]));
    let handle = s.add_tensor(Tensor::new("v", DType::Resource, []));
    let [doubled, first, sum, second, y] = ["doubled", "first", "sum", "second", "y"]
        .map(|name| s.add_tensor(Tensor::new(name, DType::I32, [LEN])));
    let variable = ops::VarHandle {
        container: None,
        shared_name: Some("v".into()),
    };
    s.nodes = vec![
        Node::new(variable, &[], &[handle]),
        Node::new(ops::Add::default(), &[x, x], &[doubled]),
        Node::new(ops::AssignVariable, &[handle, doubled], &[]),
        Node::new(ops::ReadVariable, &[handle], &[first]),
        Node::new(ops::Add::default(), &[first, x], &[sum]),
        Node::new(ops::AssignVariable, &[handle, sum], &[]),
        Node::new(ops::ReadVariable, &[handle], &[second]),
        Node::new(ops::Add::default(), &[second, first], &[y]),
    ];
    (s.inputs, s.outputs) = (vec![x], vec![y]);
    let model = Model {
        subgraphs: vec![s],
        ..Model::default()
    };
    let mut wanted = Session::new(&model, &Options::default()).unwrap();
    for offload in [OffloadOptions::default(), late(1000)] {
        let (mut session, _) = open(&model, Fake::new(is_any), offload);
        assert_eq!(session.placement().delegated, 3);
        let reason = session.placement().nodes[2].reason.clone().unwrap();
        assert!(reason.contains("keeps a state"), "{reason}");
        for value in [1, 5, -3] {
            let x = bytes(&[value; LEN]);
            assert_eq!(results(&mut session, &x), results(&mut wanted, &x));
        }
    }
}

#[test]
fn what_depends_on_data_stays_on_the_cpu() {
    // reshape(x + x, shape) + ...: what follows the reshape is planned in the run.
    let mut s = Subgraph::default();
    let x = s.add_tensor(Tensor::new("x", DType::I32, [4]));
    let shape = s.add_tensor(Tensor::new("shape", DType::I32, [2]));
    let [sum, shaped, y] =
        ["sum", "shaped", "y"].map(|name| s.add_tensor(Tensor::new(name, DType::I32, [])));
    s.nodes = vec![
        Node::new(ops::Add::default(), &[x, x], &[sum]),
        Node::new(ops::Reshape::default(), &[sum, shape], &[shaped]),
        Node::new(ops::Add::default(), &[shaped, shaped], &[y]),
    ];
    (s.inputs, s.outputs) = (vec![x, shape], vec![y]);
    let model = Model {
        subgraphs: vec![s],
        ..Model::default()
    };
    let (mut session, _) = open(&model, Fake::new(is_any), OffloadOptions::default());
    assert_eq!(
        session.placement().to_string(),
        "1 of 3 ops on fake in 1 partition; 2 on the CPU path: RESHAPE 1: its shape depends on data"
    );
    for shape in [[2, 2], [4, 1]] {
        session.set_input(1, &bytes(&shape)).unwrap();
        let y = results(&mut session, &bytes(&[1, 2, 3, 4]));
        assert_eq!(y[0], bytes(&[4, 8, 12, 16]));
        assert_eq!(session.outputs()[0].shape, shape.map(|d| d as usize));
    }
}

#[test]
fn shapes_that_are_asked_for_are_those_that_are_compiled() {
    // y = reshape(x + x, shape(x)): SHAPE is known when x is, whoever computes what it is the shape of.
    let mut s = Subgraph::default();
    let x = s.add_tensor(Tensor::new("x", DType::I32, [1, 2]));
    let [sum, shape, y, z] =
        ["sum", "shape", "y", "z"].map(|name| s.add_tensor(Tensor::new(name, DType::I32, [1, 2])));
    s[shape].shape = vec![2];
    let out_type = DType::I32;
    s.nodes = vec![
        Node::new(ops::Add::default(), &[x, x], &[sum]),
        Node::new(ops::ShapeOf { out_type }, &[sum], &[shape]),
        Node::new(ops::Reshape::default(), &[sum, shape], &[y]),
        Node::new(ops::Sub::default(), &[y, x], &[z]),
    ];
    (s.inputs, s.outputs) = (vec![x], vec![z]);
    let model = Model {
        subgraphs: vec![s],
        ..Model::default()
    };
    let resized = |offload| Options {
        input_shapes: vec![Some(vec![3, 2])],
        ..options(offload)
    };
    let x = bytes(&[1, 2, 3, 4, 5, 6]);
    let wanted = results(
        &mut Session::new(&model, &resized(OffloadOptions::default())).unwrap(),
        &x,
    );
    for takes in [is_any as fn(&Node) -> bool, is_add, |node| !is_add(node)] {
        for offload in [OffloadOptions::default(), late(1000)] {
            let fake = Arc::new(Fake::new(takes));
            let mut session = Session::with_driver(&model, fake, &resized(offload)).unwrap();
            assert_eq!(session.placement().nodes[1].placed, Placed::Constant);
            assert_eq!(results(&mut session, &x), wanted);
        }
    }
}

#[test]
fn weights_that_are_widened_beforehand_go_to_the_driver_as_the_file_has_them() {
    let mut s = Subgraph::default();
    let half = Tensor::constant("half", DType::F16, [1, 2], vec![0x00, 0x3c, 0x00, 0x40]);
    let half = s.add_tensor(half);
    let weights = s.add_tensor(Tensor::new("weights", DType::F32, [1, 2]));
    let x = s.add_tensor(Tensor::new("x", DType::F32, [1, 2]));
    let y = s.add_tensor(Tensor::new("y", DType::F32, [1, 1]));
    s.nodes = vec![
        Node::new(ops::Dequantize, &[half], &[weights]),
        Node::new(ops::FullyConnected::default(), &[x, weights], &[y]),
    ];
    (s.inputs, s.outputs) = (vec![x], vec![y]);
    let model = Model {
        subgraphs: vec![s],
        ..Model::default()
    };
    let x: Vec<u8> = [3.0f32, 5.0]
        .into_iter()
        .flat_map(f32::to_ne_bytes)
        .collect();
    let is_product = |node: &Node| matches!(node.op, Op::FullyConnected(_));
    for (fake, ops) in [(Fake::new(is_any), 2), (Fake::new(is_product), 1)] {
        let (mut session, fake) = open(&model, fake, OffloadOptions::default());
        assert_eq!(
            session.placement().to_string(),
            "1 of 1 op on fake in 1 partition"
        );
        assert_eq!(fake.shared.compiled.lock().unwrap()[..], [(None, ops)]);
        assert_eq!(results(&mut session, &x)[0], 13.0f32.to_ne_bytes());
    }
}

#[test]
fn thousands_of_runs_with_faults_lose_no_result() {
    let model = branches();
    let mut seed = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for offload in [OffloadOptions::default(), late(100)] {
        let has_deadline = offload.deadline.is_some();
        let offload = OffloadOptions {
            retire_after: u32::MAX,
            check: Check {
                first: u64::MAX,
                every: 0,
            },
            ..offload
        };
        let (mut session, fake) = open(&model, Fake::new(is_at(&[0, 2, 4])), offload);
        let mut wanted = Session::new(&model, &Options::default()).unwrap();
        let mut hangs = 0;
        const RUNS: u64 = 3000;
        for run in 0..RUNS {
            let faults = (0..random() % 4).map(|_| match random() % 40 {
                0..5 => Fault::Fail,
                5..10 => Fault::LoseDevice,
                10..15 => Fault::Garbage,
                15 if has_deadline && hangs < 8 => {
                    hangs += 1;
                    Fault::Hang(150)
                }
                16 => Fault::Panic,
                _ => Fault::None,
            });
            let faults: Vec<Fault> = faults.collect();
            *fake.shared.faults.lock().unwrap() = faults.into();
            let x = bytes(&[run as i32, random() as i32, random() as i32, 7]);
            assert_eq!(
                results(&mut session, &x),
                results(&mut wanted, &x),
                "run {run}"
            );
        }
        let report = session.report();
        assert_eq!(report.counters.len(), 2);
        for counters in &report.counters {
            assert_eq!(counters.runs, RUNS);
            assert_eq!(counters.delegated + counters.on_cpu, RUNS);
            assert_eq!(counters.lost, 0);
            assert!(
                counters.on_cpu > 50 && counters.delegated > 1000,
                "{counters:?}"
            );
            assert!(counters.wrong > 20 && !counters.retired, "{counters:?}");
        }
        let events = report.events.len() as u64 + report.more_events;
        let failures: u64 = report
            .counters
            .iter()
            .map(|c| c.failed_calls + c.wrong)
            .sum();
        assert_eq!(events, failures);
    }
}

prop_compose! {
    fn graphs()(operators in prop::collection::vec((any::<u32>(), any::<u32>(), any::<bool>()), 1..16))
        (outputs in prop::collection::vec(0..operators.len() as u32 + 2, 1..4), operators in Just(operators))
        -> (Model, Vec<bool>) {
        let operands: Vec<(u32, u32)> = (2..)
            .zip(&operators)
            .map(|(count, &(a, b, _))| (a % count, b % count))
            .collect();
        let takes = operators.iter().map(|&(.., takes)| takes).collect();
        (sums(&operands, &outputs), takes)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_model_that_is_cut_computes_what_it_did(
        (model, takes) in graphs(),
        x in any::<[u8; 4 * LEN]>(),
        has_deadline in any::<bool>(),
        first in any::<bool>(),
        faults in prop::collection::vec(prop::sample::select(vec![
            Fault::None, Fault::None, Fault::None, Fault::Fail, Fault::LoseDevice,
        ]), 0..12),
    ) {
        let mut fake = Fake::new(move |node: &Node| takes[node.outputs[0].index() - 2]);
        fake.policy.which = if first { Which::First } else { Which::All };
        fake.script(faults);
        let offload = if has_deadline { late(5000) } else { OffloadOptions::default() };
        let (mut session, _) = open(&model, fake, offload);
        let mut seen: Vec<usize> = session.placement().nodes.iter().map(|node| node.index).collect();
        seen.dedup();
        prop_assert!(seen.into_iter().eq(0..model.subgraphs[0].nodes.len()));
        for _ in 0..3 {
            prop_assert_eq!(results(&mut session, &x), plain(&model, &x));
        }
        for counters in session.report().counters {
            prop_assert_eq!(counters.delegated + counters.on_cpu, 3);
        }
    }
}
