// microGPT in C++: where a port begins. README.md says how to build and verify it.
//
// It reads a case as words and numbers from standard input and writes its answer in the
// same way. bridge.py makes these from the JSON of the cases, and describes both. Fill in
// the functions under "To be filled" one after the other, and add each level to LEVELS as
// soon as it is written. A comment such as S6.3 names a rule of SPEC.md.
//
// n targets of a document, V vocab_size

#include <algorithm>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

using std::string, std::vector;

// What is written so far: "forward", "gradients", "training", "sampling", "stream".
static const vector<string> LEVELS = {};
static const string DTYPE = "float64"; // or "float32": it selects the tolerances

[[noreturn]] static void not_written(const string &function) {
    throw std::runtime_error(function +
                             " is not written yet: take its level out of LEVELS");
}

// ---------------------------------------------------------------- The model

struct Config {
    int n_embd, n_head, n_layer, block_size;
    double init_std;
    int zero_init, relu_power;
    double learning_rate, beta1, beta2;
    int linear;      // the schedule: 1 linear, 0 cosine
    int total_steps; // S of S10
    int batch_size;
    double temperature;
};

struct Weight {
    string name; // S3.1
    int rows, columns;
    vector<double> data, grad, first_moment, second_moment; // row by row
};

struct Model {
    Config config;
    int vocab_size;         // BOS is the last token
    vector<Weight> weights; // in the order of S3.2: wte wpe lm_head layer0.attn_wq …
};

// A document, cut to the block: the tokens 0 to n - 1 are the inputs, 1 to n the targets.
using Document = vector<int>;
using Batch = vector<Document>;

// The next uniform number of the case, for sampling (S11.3).
static double uniform();

// ---------------------------------------------------------------- To be filled

// Why this port has no answer to a case, or "". For instance:
// if (model.config.n_layer != 1) return "it has one layer only";
static string declines(const Model &) { return ""; }

// Level forward: the logits of the next token after each position of one document (S4 to
// S7): n rows of V numbers, one after the other.
static vector<double> forward(const Model &model, const vector<int> &inputs) {
    (void)model, (void)inputs;
    not_written("forward");
}

// Level forward: the mean loss of all targets of a batch (S8).
static double loss(const Model &model, const Batch &batch) {
    (void)model, (void)batch;
    not_written("loss");
}

// Level gradients: the gradient of that loss, into the grad of each weight.
static void gradients(Model &model, const Batch &batch) {
    (void)model, (void)batch;
    not_written("gradients");
}

// Level training: the loss of a batch; then one step of Adam (S9) with the learning rate
// of that step (S10) changes data and both moments. step counts from 0.
static double train_step(Model &model, const Batch &batch, int step) {
    (void)model, (void)batch, (void)step;
    not_written("train_step");
}

// Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
static vector<int> sample(const Model &model, const vector<int> &prompt) {
    (void)model, (void)prompt, (void)uniform;
    not_written("sample");
}

// Level stream: from the seed, given as 32-bit words, shuffle the documents' numbers
// 0, 1, … (S1.3), then draw the initial weights into the data of each weight (S3).
static void stream(Model &model, const vector<uint32_t> &seed, vector<int> &order) {
    (void)model, (void)seed, (void)order;
    not_written("stream");
}

// ---------------------------------------------------------------- The case

// The next word, which must begin with `wanted`; returns what follows that: a name.
static string word(const string &wanted) {
    string text;
    std::cin >> text;
    if (text.compare(0, wanted.size(), wanted) != 0)
        throw std::runtime_error("the case has \"" + text + "\" where " + wanted +
                                 " must be");
    return text.substr(wanted.size());
}

template <class T> static T number() {
    T x;
    if (!(std::cin >> x)) throw std::runtime_error("a number is missing in the case");
    return x;
}

template <class T> static T value(const string &name) {
    word(name);
    return number<T>();
}

template <class T> static vector<T> numbers(size_t count) {
    vector<T> x(count);
    for (T &y : x) y = number<T>();
    return x;
}

template <class T> static vector<T> list(const string &name) {
    return numbers<T>(value<size_t>(name));
}

static Config read_config() {
    Config c;
    c.n_embd = value<int>("n_embd");
    c.n_head = value<int>("n_head");
    c.n_layer = value<int>("n_layer");
    c.block_size = value<int>("block_size");
    c.init_std = value<double>("init_std");
    c.zero_init = value<int>("zero_init");
    c.relu_power = value<int>("relu_power");
    c.learning_rate = value<double>("learning_rate");
    c.beta1 = value<double>("beta1");
    c.beta2 = value<double>("beta2");
    c.linear = value<int>("linear");
    c.total_steps = value<int>("total_steps");
    c.batch_size = value<int>("batch_size");
    c.temperature = value<double>("temperature");
    return c;
}

static vector<double> read_matrix(const string &part, Weight &w) {
    w.name = word(part);
    w.rows = number<int>();
    w.columns = number<int>();
    return numbers<double>(size_t(w.rows) * w.columns);
}

static vector<Weight> read_weights(const Config &config) {
    vector<Weight> weights(3 + 6 * config.n_layer);
    for (Weight &w : weights) w.data = read_matrix("weights:", w);
    for (Weight &w : weights) w.first_moment = read_matrix("first_moment:", w);
    for (Weight &w : weights) w.second_moment = read_matrix("second_moment:", w);
    for (Weight &w : weights) w.grad.resize(w.data.size());
    return weights;
}

static vector<Document> read_documents(const Config &config) {
    vector<Document> documents(value<size_t>("documents"));
    for (Document &d : documents) {
        d = list<int>("document");
        if (d.size() > size_t(config.block_size) + 1) // S2.3
            d.resize(config.block_size + 1);
    }
    return documents;
}

// The documents of a step (S1.4).
static Batch batch_of(const Config &config, const vector<Document> &documents, int step) {
    Batch batch;
    for (int b = 0; b < config.batch_size; b++) {
        size_t place = size_t(step) * config.batch_size + b;
        batch.push_back(documents[place % documents.size()]);
    }
    return batch;
}

static vector<double> uniforms;
static size_t uniforms_used;

static double uniform() {
    if (uniforms_used == uniforms.size())
        throw std::runtime_error("the case has no more uniforms: S11.5");
    return uniforms[uniforms_used++];
}

// ---------------------------------------------------------------- The answer

static bool has(const string &level) {
    return std::find(LEVELS.begin(), LEVELS.end(), level) != LEVELS.end();
}

template <class T> static void put(const string &label, const vector<T> &numbers) {
    std::cout << label;
    for (const T &x : numbers) std::cout << ' ' << x;
    std::cout << '\n';
}

static void put_training(Model &model, const vector<Document> &documents, int start,
                         int steps) {
    vector<double> losses;
    for (int s = 1; s <= steps; s++) {
        int step = start + s - 1;
        Batch batch = batch_of(model.config, documents, step);
        losses.push_back(train_step(model, batch, step));
        if (s > 3 && s != 20) continue;
        string after = "after:" + std::to_string(s) + ":";
        for (const Weight &w : model.weights) {
            put(after + "weights:" + w.name, w.data);
            put(after + "first_moment:" + w.name, w.first_moment);
            put(after + "second_moment:" + w.name, w.second_moment);
        }
    }
    put("losses", losses);
}

static void answer() {
    Model model;
    model.config = read_config();
    model.vocab_size = value<int>("vocab_size");
    vector<Document> documents = read_documents(model.config);
    int start = value<int>("step");
    model.weights = read_weights(model.config);
    int steps = value<int>("steps");
    vector<int> prompt = list<int>("prompt");
    int count = value<int>("count");
    uniforms = list<double>("uniforms");
    vector<uint32_t> seed = list<uint32_t>("seed");
    vector<int> order(value<size_t>("shuffle"));
    std::iota(order.begin(), order.end(), 0);

    string why = LEVELS.empty() ? "not written yet" : declines(model);
    if (!why.empty()) {
        std::cout << "declined " << why << '\n';
        return;
    }
    put("levels", LEVELS);
    put("dtype", vector<string>{DTYPE});
    std::cout << std::setprecision(17); // gives back the same double
    for (int i = 0; has("sampling") && i < count; i++) put("name", sample(model, prompt));
    Batch batch = batch_of(model.config, documents, start);
    if (steps && has("forward")) {
        put("logits", vector<double>());
        for (Document d : batch) {
            d.pop_back(); // the last token is a target only
            put("", forward(model, d));
        }
        put("loss", vector<double>{loss(model, batch)});
    }
    if (steps && has("gradients")) {
        gradients(model, batch);
        for (const Weight &w : model.weights) put("gradient:" + w.name, w.grad);
    }
    if (steps && has("training")) put_training(model, documents, start, steps);
    if (!seed.empty() && has("stream")) {
        stream(model, seed, order);
        put("shuffled", order);
        for (const Weight &w : model.weights) put("initial:" + w.name, w.data);
    }
}

int main() {
    try {
        answer();
    } catch (const std::exception &e) {
        std::cerr << "error: " << e.what() << '\n';
        return 2;
    }
}
