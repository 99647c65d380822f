// microGPT in Rust: where a port begins. README.md says how to build and verify it.
//
// It reads a case as words and numbers from standard input and writes its answer in the
// same way. bridge.py makes these from the JSON of the cases, and describes both. Fill in
// the functions under "To be filled" one after the other, and add each level to LEVELS as
// soon as it is written. A comment such as S6.3 names a rule of SPEC.md.
//
// n targets of a document, V vocab_size

#![allow(dead_code, unused_variables)] // until everything is filled in

use std::fmt::Display;
use std::io::{Read, Write};
use std::process::exit;
use std::str::FromStr;

// What is written so far: "forward", "gradients", "training", "sampling", "stream".
const LEVELS: &[&str] = &[];
const DTYPE: &str = "float64"; // or "float32": it selects the tolerances

fn die(why: &str) -> ! {
    eprintln!("error: {why}");
    exit(2)
}

fn not_written(function: &str) -> ! {
    die(&format!(
        "{function} is not written yet: take its level out of LEVELS"
    ))
}

// ---------------------------------------------------------------- The model

struct Config {
    n_embd: usize,
    n_head: usize,
    n_layer: usize,
    block_size: usize,
    init_std: f64,
    zero_init: usize, // 0 or 1
    relu_power: usize,
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    linear: usize,      // the schedule: 1 linear, 0 cosine
    total_steps: usize, // S of S10
    batch_size: usize,
    temperature: f64,
}

#[derive(Default)]
struct Weight {
    name: String, // S3.1
    rows: usize,
    columns: usize,
    data: Vec<f64>, // row by row, as are the other three
    grad: Vec<f64>,
    first_moment: Vec<f64>,
    second_moment: Vec<f64>,
}

struct Model {
    config: Config,
    vocab_size: usize,    // BOS is the last token
    weights: Vec<Weight>, // in the order of S3.2: wte wpe lm_head layer0.attn_wq …
}

// A document, cut to the block: the tokens 0 to n - 1 are the inputs, 1 to n the targets.
type Document = Vec<usize>;

// The uniform numbers of the case. next() gives the next one (S11.3).
struct Uniforms(std::vec::IntoIter<f64>);

impl Uniforms {
    fn next(&mut self) -> f64 {
        self.0
            .next()
            .unwrap_or_else(|| die("the case has no more uniforms: S11.5"))
    }
}

// ---------------------------------------------------------------- To be filled

// Why this port has no answer to a case, or "". For instance:
// if model.config.n_layer != 1 { return "it has one layer only"; }
fn declines(model: &Model) -> &'static str {
    ""
}

// Level forward: the logits of the next token after each position of one document (S4 to
// S7): n rows of V numbers, one after the other.
fn forward(model: &Model, inputs: &[usize]) -> Vec<f64> {
    not_written("forward")
}

// Level forward: the mean loss of all targets of a batch (S8).
fn loss(model: &Model, batch: &[Document]) -> f64 {
    not_written("loss")
}

// Level gradients: the gradient of that loss, into the grad of each weight.
fn gradients(model: &mut Model, batch: &[Document]) {
    not_written("gradients")
}

// Level training: the loss of a batch; then one step of Adam (S9) with the learning rate
// of that step (S10) changes data and both moments. step counts from 0.
fn train_step(model: &mut Model, batch: &[Document], step: usize) -> f64 {
    not_written("train_step")
}

// Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
fn sample(model: &Model, prompt: &[usize], uniforms: &mut Uniforms) -> Vec<usize> {
    not_written("sample")
}

// Level stream: from the seed, given as 32-bit words, shuffle the documents' numbers
// 0, 1, … (S1.3), then draw the initial weights into the data of each weight (S3).
fn stream(model: &mut Model, seed: &[u32], order: &mut [usize]) {
    not_written("stream")
}

// ---------------------------------------------------------------- The case

struct Case<'a>(std::str::SplitWhitespace<'a>);

impl Case<'_> {
    // The next word, which must begin with `wanted`; returns what follows that: a name.
    fn word(&mut self, wanted: &str) -> String {
        let text = self.0.next().unwrap_or("");
        match text.strip_prefix(wanted) {
            Some(name) => name.to_string(),
            None => die(&format!("the case has {text:?} where {wanted} must be")),
        }
    }

    fn number<T: FromStr>(&mut self) -> T {
        let text = self.0.next().unwrap_or("");
        text.parse()
            .unwrap_or_else(|_| die(&format!("the case: {text:?} is not a number")))
    }

    fn value<T: FromStr>(&mut self, name: &str) -> T {
        self.word(name);
        self.number()
    }

    fn numbers<T: FromStr>(&mut self, count: usize) -> Vec<T> {
        (0..count).map(|_| self.number()).collect()
    }

    fn list<T: FromStr>(&mut self, name: &str) -> Vec<T> {
        let count = self.value(name);
        self.numbers(count)
    }

    fn config(&mut self) -> Config {
        Config {
            n_embd: self.value("n_embd"),
            n_head: self.value("n_head"),
            n_layer: self.value("n_layer"),
            block_size: self.value("block_size"),
            init_std: self.value("init_std"),
            zero_init: self.value("zero_init"),
            relu_power: self.value("relu_power"),
            learning_rate: self.value("learning_rate"),
            beta1: self.value("beta1"),
            beta2: self.value("beta2"),
            linear: self.value("linear"),
            total_steps: self.value("total_steps"),
            batch_size: self.value("batch_size"),
            temperature: self.value("temperature"),
        }
    }

    fn matrix(&mut self, part: &str, w: &mut Weight) -> Vec<f64> {
        w.name = self.word(part);
        w.rows = self.number();
        w.columns = self.number();
        self.numbers(w.rows * w.columns)
    }

    fn weights(&mut self, config: &Config) -> Vec<Weight> {
        let mut weights: Vec<Weight> = Vec::new();
        weights.resize_with(3 + 6 * config.n_layer, Weight::default);
        for w in &mut weights {
            w.data = self.matrix("weights:", w);
            w.grad = vec![0.0; w.data.len()];
        }
        for w in &mut weights {
            w.first_moment = self.matrix("first_moment:", w);
        }
        for w in &mut weights {
            w.second_moment = self.matrix("second_moment:", w);
        }
        weights
    }

    fn documents(&mut self, config: &Config) -> Vec<Document> {
        let count = self.value("documents");
        let mut documents: Vec<Document> = (0..count).map(|_| self.list("document")).collect();
        for document in &mut documents {
            document.truncate(config.block_size + 1); // S2.3
        }
        documents
    }
}

// The documents of a step (S1.4).
fn batch_of(config: &Config, documents: &[Document], step: usize) -> Vec<Document> {
    (0..config.batch_size)
        .map(|b| documents[(step * config.batch_size + b) % documents.len()].clone())
        .collect()
}

// ---------------------------------------------------------------- The answer

fn has(level: &str) -> bool {
    LEVELS.contains(&level)
}

// {} writes as many digits as give back the same f64.
fn put<T: Display>(out: &mut String, label: &str, values: &[T]) {
    out.push_str(label);
    for x in values {
        out.push_str(&format!(" {x}"));
    }
    out.push('\n');
}

fn put_training(
    out: &mut String,
    model: &mut Model,
    documents: &[Document],
    start: usize,
    steps: usize,
) {
    let mut losses = Vec::new();
    for s in 1..=steps {
        let step = start + s - 1;
        let batch = batch_of(&model.config, documents, step);
        losses.push(train_step(model, &batch, step));
        if s > 3 && s != 20 {
            continue;
        }
        for w in &model.weights {
            put(out, &format!("after:{s}:weights:{}", w.name), &w.data);
            put(
                out,
                &format!("after:{s}:first_moment:{}", w.name),
                &w.first_moment,
            );
            put(
                out,
                &format!("after:{s}:second_moment:{}", w.name),
                &w.second_moment,
            );
        }
    }
    put(out, "losses", &losses);
}

fn answer(input: &str) -> String {
    let mut case = Case(input.split_whitespace());
    let config = case.config();
    let vocab_size = case.value("vocab_size");
    let documents = case.documents(&config);
    let start: usize = case.value("step");
    let weights = case.weights(&config);
    let mut model = Model {
        config,
        vocab_size,
        weights,
    };
    let steps: usize = case.value("steps");
    let prompt: Vec<usize> = case.list("prompt");
    let count: usize = case.value("count");
    let mut uniforms = Uniforms(case.list("uniforms").into_iter());
    let seed: Vec<u32> = case.list("seed");
    let mut order: Vec<usize> = (0..case.value("shuffle")).collect();

    let why = if LEVELS.is_empty() {
        "not written yet"
    } else {
        declines(&model)
    };
    if !why.is_empty() {
        return format!("declined {why}\n");
    }
    let mut out = String::new();
    put(&mut out, "levels", LEVELS);
    put(&mut out, "dtype", &[DTYPE]);
    if has("sampling") {
        for _ in 0..count {
            put(&mut out, "name", &sample(&model, &prompt, &mut uniforms));
        }
    }
    let batch = batch_of(&model.config, &documents, start);
    if steps > 0 && has("forward") {
        put::<f64>(&mut out, "logits", &[]);
        for document in &batch {
            let inputs = &document[..document.len() - 1]; // the last token is only a target
            put(&mut out, "", &forward(&model, inputs));
        }
        put(&mut out, "loss", &[loss(&model, &batch)]);
    }
    if steps > 0 && has("gradients") {
        gradients(&mut model, &batch);
        for w in &model.weights {
            put(&mut out, &format!("gradient:{}", w.name), &w.grad);
        }
    }
    if steps > 0 && has("training") {
        put_training(&mut out, &mut model, &documents, start, steps);
    }
    if !seed.is_empty() && has("stream") {
        stream(&mut model, &seed, &mut order);
        put(&mut out, "shuffled", &order);
        for w in &model.weights {
            put(&mut out, &format!("initial:{}", w.name), &w.data);
        }
    }
    out
}

fn main() {
    let mut input = String::new();
    if let Err(e) = std::io::stdin().read_to_string(&mut input) {
        die(&format!("cannot read the case: {e}"));
    }
    if let Err(e) = std::io::stdout().write_all(answer(&input).as_bytes()) {
        die(&format!("cannot write the answer: {e}"));
    }
}
