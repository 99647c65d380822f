// microGPT in JavaScript: where a port begins. README.md says how to run and verify it.
//
// It reads a case as JSON from standard input and writes its answer as JSON to standard
// output; spec/README.md describes both. Fill in the functions under "To be filled" one
// after the other, and add each level to LEVELS as soon as it is written. A comment such
// as S6.3 names a rule of SPEC.md.
//
// n targets of a document, V vocabSize

import { readFileSync } from "node:fs";

// What is written so far: "forward", "gradients", "training", "sampling", "stream".
const LEVELS = [];
const DTYPE = "float64"; // or "float32": it selects the tolerances

function notWritten(name) {
  throw new Error(`${name} is not written yet: take its level out of LEVELS`);
}

// ---------------------------------------------------------------- The model

// What training carries (S13). weights, firstMoment and secondMoment are objects with the
// names of S3.1; each value is a list of rows.
function createModel(question) {
  const { weights, first_moment, second_moment } = question.start;
  return {
    config: question.config, // the numbers of the recipe, as in S12
    vocabSize: [...question.letters].length + 1, // BOS is the last token
    weights,
    firstMoment: first_moment,
    secondMoment: second_moment,
  };
}

// ---------------------------------------------------------------- To be filled
//
// A batch is a list of documents. A document has n + 1 tokens, cut to the block: the first
// n are the inputs, the last n the targets.

// Why this port has no answer to a case, or "". For instance:
// if (model.config.n_layer !== 1) return "it has one layer only";
function declines(model) {
  return "";
}

// Level forward: the logits of the next token after each position of one document (S4 to
// S7): n rows of V numbers.
function forward(model, inputs) {
  notWritten("forward");
}

// Level forward: the mean loss of all targets of a batch (S8).
function loss(model, batch) {
  notWritten("loss");
}

// Level gradients: the gradient of that loss for each weight: name -> rows.
function gradients(model, batch) {
  notWritten("gradients");
}

// Level training: the loss of a batch; then one step of Adam (S9) with the learning rate
// of that step (S10) changes the weights and both moments. step counts from 0.
function trainStep(model, batch, step) {
  notWritten("trainStep");
}

// Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
// uniform() is the next uniform number of the case (S11.3).
function sample(model, prompt, uniform) {
  notWritten("sample");
}

// Level stream: from the seed, given as 32-bit words (lowest first), shuffle the list of
// documents in place (S1.3). Then return the initial weights (S3): name -> rows.
function stream(model, seed, documents) {
  notWritten("stream");
}

// ---------------------------------------------------------------- The answer

// The documents of a step (S1.4), each cut to the block (S2.3).
function batchOf(question, step) {
  const { batch_size, block_size } = question.config;
  return Array.from({ length: batch_size }, (_, b) => {
    const place = (step * batch_size + b) % question.tokens.length;
    return question.tokens[place].slice(0, block_size + 1);
  });
}

// The seed's 32-bit words (S1.2). It is read from the text, because a JavaScript number
// keeps no more than 53 bits.
function seedWords(text) {
  let seed = BigInt(text.match(/"seed":\s*(\d+)/)[1]);
  const words = [];
  do {
    words.push(Number(seed & 0xffffffffn));
    seed >>= 32n;
  } while (seed);
  return words;
}

function names(model, question) {
  const letters = [...question.letters]; // letters are code points (S2.1)
  const prompt = [...question.prompt].map((letter) => letters.indexOf(letter));
  let used = 0;
  const uniform = () => {
    if (used === question.uniforms.length)
      throw new Error("the case has no more uniforms: S11.5");
    return question.uniforms[used++];
  };
  return Array.from({ length: question.count }, () =>
    sample(model, prompt, uniform).map((token) => letters[token]).join(""),
  );
}

function training(model, question) {
  const start = question.start.step;
  const losses = [];
  const after = {};
  for (let s = 1; s <= question.steps; s++) {
    const step = start + s - 1;
    losses.push(trainStep(model, batchOf(question, step), step));
    if (s <= 3 || s === 20)
      after[s] = structuredClone({
        weights: model.weights,
        first_moment: model.firstMoment,
        second_moment: model.secondMoment,
      });
  }
  return { losses, after };
}

function answer(text) {
  const question = JSON.parse(text);
  const model = createModel(question);
  const why = LEVELS.length ? declines(model) : "not written yet";
  if (why) return { id: question.id, declined: why };

  const has = (level) => LEVELS.includes(level);
  const batch = batchOf(question, question.start.step);
  const answer = { id: question.id, levels: LEVELS, dtype: DTYPE };
  if (has("sampling")) answer.names = names(model, question);
  if (question.steps && has("forward")) {
    answer.logits = batch.map((document) => forward(model, document.slice(0, -1)));
    answer.loss = loss(model, batch);
  }
  if (question.steps && has("gradients"))
    answer.gradients = structuredClone(gradients(model, batch)); // training may change it
  if (question.stream && has("stream")) {
    const shuffled = [...question.stream.documents];
    const weights = stream(model, seedWords(text), shuffled);
    answer.stream = { shuffled, weights };
  }
  if (question.steps && has("training"))
    Object.assign(answer, training(model, question)); // changes the weights
  return answer;
}

try {
  process.stdout.write(JSON.stringify(answer(readFileSync(0, "utf8"))));
} catch (e) {
  process.stderr.write(`error: ${e.message}\n`);
  process.exitCode = 2;
}
