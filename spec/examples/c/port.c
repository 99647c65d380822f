// microGPT in C: an example of a port, which passes every level of ../../README.md.
//
// It reads one case as JSON from standard input and writes its answer as JSON to
// standard output. If it cannot use the input, it prints one line and ends with exit
// status 2.
//
//     cc -O2 -std=c11 -Wall -Wextra -o port port.c -lm
//
// The model is in the middle, from "Tensors" to "Sampling". The sections before and
// after it do what Python's standard library does: memory, JSON, random numbers. A
// comment such as S6.3 names a rule of ../../../SPEC.md.
//
// C n_embd, D head_dim, T block_size; t a position, u a position that t attends to

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846; // C11 has no constant for it

// ---------------------------------------------------------------- Memory

static _Noreturn void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

// A linked list of all memory blocks. They are freed at exit, also after an error.
typedef struct Block {
    struct Block *before;
    max_align_t data[];
} Block;

static Block *blocks;

static void *take(size_t count, size_t size) { // the memory is set to zero
    Block *block = NULL;
    if (count <= (SIZE_MAX - sizeof *block) / size)
        block = calloc(1, sizeof *block + count * size);
    if (!block) die("out of memory: the case is too large");
    block->before = blocks;
    blocks = block;
    return block->data;
}

static void give_back(void) {
    for (Block *before; blocks; blocks = before) {
        before = blocks->before;
        free(blocks);
    }
}

// ---------------------------------------------------------------- Reading JSON

typedef enum { NOTHING, BOOLEAN, NUMBER, STRING, LIST, OBJECT } Kind;
static const char *const KINDS[] = {
    "missing or null", "true or false", "a number", "a string", "a list", "an object"};

typedef struct Json {
    Kind kind;
    double number;             // value of a NUMBER; 0 or 1 for a BOOLEAN
    const char *text, *key;    // text of a STRING; key, if this is a value of an OBJECT
    size_t count;              // number of values in a LIST or an OBJECT
    struct Json *first, *next; // its first value; the value after this one
} Json;

static char *source, *at; // the text, which ends with a zero byte; the next byte of it

static _Noreturn void no_json(void) {
    die("the case is not JSON: see byte %td", at - source);
}

// The same as strspn, which in some C libraries reads the whole rest of the text first.
static size_t span(const char *text, const char *set) {
    size_t n = 0;
    while (text[n] && strchr(set, text[n])) n++;
    return n;
}

static char skip_space(void) { return *(at += span(at, " \t\r\n")); }

static void expect(const char *word) {
    if (strncmp(at, word, strlen(word))) no_json();
    at += strlen(word);
}

// Strings keep their JSON escapes, because they are only compared and copied to the
// answer.
static const char *read_string(void) {
    const char *text = at + 1;
    for (expect("\""); *at != '"'; at++) {
        bool escape = *at == '\\';
        at += escape;
        if ((unsigned char)*at < 0x20 || (escape && !strchr("\"\\/bfnrtu", *at)))
            no_json();
        if (escape && *at == 'u' && span(at + 1, "0123456789abcdefABCDEF") < 4)
            no_json();
    }
    *at++ = '\0';
    return text;
}

// strtod also accepts 0x10 and nan, which are not JSON. The allowed characters exclude
// them.
static double read_number(void) {
    char *end, *allowed = at + span(at, "+-.0123456789eE");
    double number = strtod(at, &end);
    if (end == at || end != allowed || !isfinite(number)) no_json();
    at = end;
    return number;
}

static Json *read_value(int depth) {
    Json *value = take(1, sizeof *value), **slot = &value->first;
    char open = skip_space(), close[] = {open == '[' ? ']' : '}', '\0'};
    if (open == '[' || open == '{') {
        value->kind = open == '[' ? LIST : OBJECT;
        if (depth == 32) no_json(); // no case is so deep; the limit protects the stack
        at++;
        for (bool more = skip_space() != *close; more; value->count++) {
            const char *key = NULL;
            if (open == '{') {
                skip_space();
                key = read_string();
                skip_space();
                expect(":");
            }
            *slot = read_value(depth + 1);
            (*slot)->key = key;
            slot = &(*slot)->next;
            more = skip_space() == ',';
            at += more;
        }
        expect(close);
    } else if (open == '"') {
        value->kind = STRING;
        value->text = read_string();
    } else if (open == 't' || open == 'f') {
        value->kind = BOOLEAN;
        value->number = open == 't';
        expect(open == 't' ? "true" : "false");
    } else if (open == 'n') {
        expect("null");
    } else {
        value->kind = NUMBER;
        value->number = read_number();
    }
    return value;
}

static const Json *read_json(FILE *file) {
    size_t room = 1 << 16, size = 0, got;
    source = take(room, 1);
    while ((got = fread(source + size, 1, room - 1 - size, file))) {
        size += got;
        if (size == room - 1) source = memcpy(take(room *= 2, 1), source, size);
    }
    if (ferror(file)) die("cannot read the case from standard input");
    at = source;
    const Json *value = read_value(0);
    skip_space();
    if (at != source + size) no_json();
    return value;
}

static const Json *must_be(Kind kind, const Json *value, const char *name) {
    Kind found = value ? value->kind : NOTHING;
    if (found != kind) die("%s must be %s, not %s", name, KINDS[kind], KINDS[found]);
    return value;
}

static const Json *find(const Json *object, const char *key) {
    const Json *x = object->first;
    while (x && strcmp(x->key, key)) x = x->next;
    return x;
}

static const Json *get(const Json *object, const char *key, Kind kind) {
    return must_be(kind, find(object, key), key);
}

static double get_number(const Json *object, const char *key, double low, double high) {
    double number = get(object, key, NUMBER)->number;
    if (number < low || number > high)
        die("%s is %.17g: it must be from %g to %g", key, number, low, high);
    return number;
}

static size_t get_whole(const Json *object, const char *key, double low, double high) {
    double number = get_number(object, key, low, high);
    if (number != floor(number))
        die("%s is %.17g: it must be a whole number", key, number);
    return (size_t)number;
}

// ---------------------------------------------------------------- Tensors

static struct { // the recipe, S12
    size_t n_embd, n_head, head_dim, n_layer, block_size, relu_power, steps, batch_size;
    double init_std, learning_rate, beta1, beta2, temperature;
    bool zero_init, linear; // linear: the schedule is linear; false: it is cosine
} config;

// A weight, or the result of an operation on x and y, which has one row per position.
typedef struct Tensor {
    char name[32];
    size_t rows, columns;
    double *data, *grad;            // grad: d loss / d data
    double *moment1, *moment2, std; // of weights: Adam's moments, deviation of draws
    const struct Operation *made_by;
    struct Tensor *x, *y;
    const size_t *tokens; // if set: row t is computed from row tokens[t] of x
} Tensor;

// forward computes row t of z; backward adds to the gradients of z->x and z->y what row
// t of z contributes.
typedef struct Operation {
    void (*forward)(const Tensor *z, size_t t), (*backward)(const Tensor *z, size_t t);
} Operation;

static double *value(const Tensor *x, size_t t) { return x->data + t * x->columns; }
static double *grad(const Tensor *x, size_t t) { return x->grad + t * x->columns; }
static size_t size_of(const Tensor *x) { return x->rows * x->columns; }

static Tensor tensor(const char *name, size_t layer, size_t rows, size_t columns) {
    Tensor x = {.rows = rows, .columns = columns};
    snprintf(x.name, sizeof x.name, name, layer);
    x.data = take(size_of(&x), sizeof *x.data);
    x.grad = take(size_of(&x), sizeof *x.grad);
    return x;
}

static void clear_grads(Tensor *x, size_t count) {
    for (; count--; x++) memset(x->grad, 0, size_of(x) * sizeof *x->grad);
}

// ---------------------------------------------------------------- Operations

// Every backward function adds to the gradients, because a tensor may be used several
// times: its gradient is the sum over all uses (S8.3).

static double dot(const double *x, const double *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

// y += a x
static void add_scaled(double *restrict y, double a, const double *restrict x,
                       size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

// z = x + y: both gradients are dz
static void add(const Tensor *z, size_t t) {
    size_t row = z->tokens ? z->tokens[t] : t;
    memcpy(value(z, t), value(z->y, t), z->columns * sizeof *z->data);
    add_scaled(value(z, t), 1, value(z->x, row), z->columns);
}

static void add_backward(const Tensor *z, size_t t) {
    size_t row = z->tokens ? z->tokens[t] : t;
    add_scaled(grad(z->x, row), 1, grad(z, t), z->columns);
    add_scaled(grad(z->y, t), 1, grad(z, t), z->columns);
}

// z = y x, where y is a weight: dx = yᵀ dz, dy = dz xᵀ
static void linear(const Tensor *z, size_t t) {
    for (size_t o = 0; o < z->columns; o++)
        value(z, t)[o] = dot(value(z->y, o), value(z->x, t), z->x->columns);
}

static void linear_backward(const Tensor *z, size_t t) {
    for (size_t o = 0; o < z->columns; o++) {
        add_scaled(grad(z->x, t), grad(z, t)[o], value(z->y, o), z->x->columns);
        add_scaled(grad(z->y, o), grad(z, t)[o], value(z->x, t), z->x->columns);
    }
}

static double inverse_rms(const double *x, size_t n) { // S5.1
    return 1 / sqrt(dot(x, x, n) / (double)n + 1e-5);
}

// z = x / rms(x)
static void rmsnorm(const Tensor *z, size_t t) {
    double scale = inverse_rms(value(z->x, t), z->columns);
    for (size_t i = 0; i < z->columns; i++) value(z, t)[i] = value(z->x, t)[i] * scale;
}

static void rmsnorm_backward(const Tensor *z, size_t t) { // S5.2
    size_t n = z->columns;
    double scale = inverse_rms(value(z->x, t), n);
    double mean = dot(value(z, t), grad(z, t), n) / (double)n;
    add_scaled(grad(z->x, t), scale, grad(z, t), n);
    add_scaled(grad(z->x, t), -scale * mean, value(z, t), n); // as scale depends on x
}

// z = x·y / √D in each head, where x is the query and y the keys of all positions so
// far. Head h uses the D entries of x and y from h D on (S6.2). Its scores are the
// t + 1 entries of z from h T on.
static void scores(const Tensor *z, size_t t) {
    size_t D = config.head_dim, T = config.block_size;
    for (size_t h = 0; h < config.n_head; h++)
        for (size_t u = 0; u <= t; u++) { // S6.4: no later position
            double product = dot(value(z->x, t) + h * D, value(z->y, u) + h * D, D);
            value(z, t)[h * T + u] = product / sqrt((double)D); // S6.3
        }
}

static void scores_backward(const Tensor *z, size_t t) {
    size_t D = config.head_dim, T = config.block_size;
    for (size_t h = 0; h < config.n_head; h++)
        for (size_t u = 0; u <= t; u++) {
            double dproduct = grad(z, t)[h * T + u] / sqrt((double)D);
            add_scaled(grad(z->x, t) + h * D, dproduct, value(z->y, u) + h * D, D);
            add_scaled(grad(z->y, u) + h * D, dproduct, value(z->x, t) + h * D, D);
        }
}

// p = softmax(x). Returns ln Σ exp(x), which the loss needs. Softmax is
// shift-invariant: subtracting the maximum only prevents overflow.
static double softmax(double *p, const double *x, size_t n) {
    double top = x[0], total = 0;
    for (size_t i = 1; i < n; i++) top = fmax(top, x[i]);
    for (size_t i = 0; i < n; i++) total += p[i] = exp(x[i] - top);
    for (size_t i = 0; i < n; i++) p[i] /= total;
    return log(total) + top;
}

// z = softmax(x) in each head, S6.5: dx = p (dz - Σ p dz)
static void attention(const Tensor *z, size_t t) {
    for (size_t h = 0, i = 0; h < config.n_head; h++, i += config.block_size)
        softmax(value(z, t) + i, value(z->x, t) + i, t + 1);
}

static void attention_backward(const Tensor *z, size_t t) {
    for (size_t h = 0, i = 0; h < config.n_head; h++, i += config.block_size) {
        const double *p = value(z, t) + i, *dp = grad(z, t) + i;
        double mean = dot(p, dp, t + 1);
        for (size_t u = 0; u <= t; u++) grad(z->x, t)[i + u] += p[u] * (dp[u] - mean);
    }
}

// z = Σ x y in each head: x are its attention weights, y the values so far, S6.6
static void heads(const Tensor *z, size_t t) {
    size_t D = config.head_dim, T = config.block_size;
    memset(value(z, t), 0, z->columns * sizeof *z->data);
    for (size_t h = 0; h < config.n_head; h++)
        for (size_t u = 0; u <= t; u++)
            add_scaled(value(z, t) + h * D, value(z->x, t)[h * T + u],
                       value(z->y, u) + h * D, D);
}

static void heads_backward(const Tensor *z, size_t t) {
    size_t D = config.head_dim, T = config.block_size;
    for (size_t h = 0; h < config.n_head; h++)
        for (size_t u = 0; u <= t; u++) {
            const double *dz = grad(z, t) + h * D;
            grad(z->x, t)[h * T + u] += dot(dz, value(z->y, u) + h * D, D);
            add_scaled(grad(z->y, u) + h * D, value(z->x, t)[h * T + u], dz, D);
        }
}

static double power(double x, size_t p) { return p ? x * power(x, p - 1) : 1; }

// z = max(0, x)^p: dx = p max(0, x)^(p-1) dz
static void relu(const Tensor *z, size_t t) { // S7.2
    for (size_t i = 0; i < z->columns; i++)
        value(z, t)[i] = power(fmax(0, value(z->x, t)[i]), config.relu_power);
}

static void relu_backward(const Tensor *z, size_t t) { // S7.3
    size_t p = config.relu_power;
    for (size_t i = 0; i < z->columns; i++) {
        double x = value(z->x, t)[i], slope = x > 0 ? (double)p * power(x, p - 1) : 0;
        grad(z->x, t)[i] += slope * grad(z, t)[i];
    }
}

static const Operation ADD = {add, add_backward}, LINEAR = {linear, linear_backward};
static const Operation RMSNORM = {rmsnorm, rmsnorm_backward},
                       RELU = {relu, relu_backward};
static const Operation SCORES = {scores, scores_backward},
                       HEADS = {heads, heads_backward};
static const Operation ATTENTION = {attention, attention_backward};

// ---------------------------------------------------------------- Parameters

// The weights, in the order of drawing. Layer i has w[WQ] to w[FC2] with
// w = weight + 6 i.
enum { WTE, WPE, LM_HEAD, WQ, WK, WV, WO, FC1, FC2, LAYER_WEIGHTS = 6 };

static Tensor *weight;
static size_t weights, vocab_size, step; // how many weights; V; steps taken so far

static void add_weight(const char *name, size_t layer, size_t rows, size_t columns,
                       double std) {
    Tensor w = tensor(name, layer, rows, columns);
    w.moment1 = take(size_of(&w), sizeof *w.moment1);
    w.moment2 = take(size_of(&w), sizeof *w.moment2);
    w.std = std;
    weight[weights++] = w;
}

static void create(void) { // S3.1, S3.2
    size_t C = config.n_embd;
    double std = config.init_std, last = config.zero_init ? 0 : std; // S3.3
    weight = take(WQ + config.n_layer * LAYER_WEIGHTS, sizeof *weight);
    add_weight("wte", 0, vocab_size, C, std);
    add_weight("wpe", 0, config.block_size, C, std);
    add_weight("lm_head", 0, vocab_size, C, std);
    for (size_t i = 0; i < config.n_layer; i++) {
        add_weight("layer%zu.attn_wq", i, C, C, std);
        add_weight("layer%zu.attn_wk", i, C, C, std);
        add_weight("layer%zu.attn_wv", i, C, C, std);
        add_weight("layer%zu.attn_wo", i, C, C, last);
        add_weight("layer%zu.mlp_fc1", i, 4 * C, C, std);
        add_weight("layer%zu.mlp_fc2", i, C, 4 * C, last);
    }
}

// ---------------------------------------------------------------- Forward and backward

// All tensors computed from one document, in the order of execution. The last one is
// the logits.
typedef struct {
    Tensor *value;
    size_t count;
} Tape;

static Tensor *make(Tape *tape, const char *name, size_t layer, const Operation *by,
                    Tensor *x, Tensor *y) {
    size_t columns = by == &LINEAR   ? y->rows
                     : by == &SCORES ? config.n_head * config.block_size
                     : by == &HEADS  ? y->columns
                                     : x->columns;
    Tensor *z = &tape->value[tape->count++];
    *z = tensor(name, layer, config.block_size, columns);
    z->made_by = by;
    z->x = x;
    z->y = y;
    return z;
}

// The model, S4 to S7. This only lists the operations; forward() computes them. So a
// tape is made once and used for many documents.
static Tape record(void) {
    Tape tape = {take(3 + 14 * config.n_layer, sizeof *tape.value), 0}, *a = &tape;
    Tensor *x = make(a, "embedding", 0, &ADD, &weight[WTE], &weight[WPE]); // S4.1
    x = make(a, "embedding_norm", 0, &RMSNORM, x, NULL);                   // S4.2
    for (size_t i = 0; i < config.n_layer; i++) {
        Tensor *w = weight + i * LAYER_WEIGHTS;
        Tensor *h = make(a, "layer%zu.attn_norm", i, &RMSNORM, x, NULL); // S6.1
        Tensor *q = make(a, "layer%zu.q", i, &LINEAR, h, &w[WQ]);
        Tensor *k = make(a, "layer%zu.k", i, &LINEAR, h, &w[WK]);
        Tensor *v = make(a, "layer%zu.v", i, &LINEAR, h, &w[WV]);
        h = make(a, "layer%zu.scores", i, &SCORES, q, k);
        h = make(a, "layer%zu.attention", i, &ATTENTION, h, NULL);
        h = make(a, "layer%zu.heads", i, &HEADS, h, v);
        h = make(a, "layer%zu.attn_out", i, &LINEAR, h, &w[WO]);
        x = make(a, "layer%zu.attn_residual", i, &ADD, x, h);   // S6.7
        h = make(a, "layer%zu.mlp_norm", i, &RMSNORM, x, NULL); // S7.1
        h = make(a, "layer%zu.pre_activation", i, &LINEAR, h, &w[FC1]);
        h = make(a, "layer%zu.activation", i, &RELU, h, NULL);
        h = make(a, "layer%zu.mlp_out", i, &LINEAR, h, &w[FC2]);
        x = make(a, "layer%zu.mlp_residual", i, &ADD, x, h); // S7.4
    }
    make(a, "logits", 0, &LINEAR, x, &weight[LM_HEAD]); // S4.4: no norm before
    return tape;
}

// Computes position t. The positions before it must have been computed already, because
// attention reads their keys and values. Row t of the result holds the logits of the
// next token.
static const Tensor *forward(const Tape *tape, const size_t *tokens, size_t t) {
    tape->value->tokens = tokens;
    for (size_t k = 0; k < tape->count; k++)
        tape->value[k].made_by->forward(&tape->value[k], t);
    return &tape->value[tape->count - 1];
}

// The chain rule, from the gradient of the logits back to the weights. Every operation
// that uses a tensor is later on the tape. So, when the loop reaches a tensor, its
// gradient is complete.
static void backward(const Tape *tape, size_t n) {
    for (size_t k = tape->count; k--;)
        for (size_t t = 0; t < n; t++)
            tape->value[k].made_by->backward(&tape->value[k], t);
}

// ---------------------------------------------------------------- Loss and training

typedef struct {
    size_t *tokens, n; // n positions, each with a target: at most block_size, S2.3
} Document;

static Document *docs;
static size_t n_docs;

// Document b of this step's batch, S1.4.
static const Document *pick(size_t b) {
    return &docs[(step * config.batch_size + b) % n_docs];
}

// The mean loss of all targets of the batch (S8). Its gradients are left in the weights
// and in the tensors of the tapes; each document has its own tape.
static double loss_and_gradients(const Tape *tapes) {
    double total = 0, targets = 0;
    for (size_t b = 0; b < config.batch_size; b++) targets += (double)pick(b)->n;
    clear_grads(weight, weights);
    for (size_t b = 0; b < config.batch_size; b++) {
        const Document *doc = pick(b);
        clear_grads(tapes[b].value, tapes[b].count);
        for (size_t t = 0; t < doc->n; t++) {
            const Tensor *logits = forward(&tapes[b], doc->tokens, t);
            const double *z = value(logits, t);
            double *dz = grad(logits, t);
            size_t target = doc->tokens[t + 1];
            total += softmax(dz, z, vocab_size) - z[target]; // S8.1
            dz[target] -= 1; // predicted probabilities minus the one-hot target
            for (size_t i = 0; i < vocab_size; i++) dz[i] /= targets; // S8.2
        }
        backward(&tapes[b], doc->n);
    }
    return total / targets;
}

static double learning_rate(void) { // S10
    double done = (double)step / (double)config.steps;
    double left = config.linear ? 1 - done : 0.5 * (1 + cos(PI * done));
    return config.learning_rate * left;
}

static void adam(void) { // S9
    double rate = learning_rate(), beta1 = config.beta1, beta2 = config.beta2;
    step++;
    double correct1 = 1 - pow(beta1, (double)step);
    double correct2 = 1 - pow(beta2, (double)step);
    for (Tensor *w = weight; w < weight + weights; w++)
        for (size_t i = 0; i < size_of(w); i++) {
            double g = w->grad[i], *m = &w->moment1[i], *v = &w->moment2[i];
            *m = beta1 * *m + (1 - beta1) * g;
            *v = beta2 * *v + (1 - beta2) * g * g;
            w->data[i] -= rate * (*m / correct1) / (sqrt(*v / correct2) + 1e-8); // S9.4
        }
}

// ---------------------------------------------------------------- Sampling

// Draws a token from the logits z. u is uniform in [0, 1); p is working memory for the
// probabilities.
static size_t draw_token(const double *z, double u, double *p) {
    for (size_t i = 0; i < vocab_size; i++) p[i] = z[i] / config.temperature;
    softmax(p, p, vocab_size); // S11.2
    for (size_t i = 1; i < vocab_size; i++) p[i] += p[i - 1];
    size_t token = 0;
    while (token < vocab_size - 1 && p[token] <= u * p[vocab_size - 1]) // S11.3
        token++;
    return token;
}

// Draws a name. Its first `count` tokens are given: BOS and the prompt (S11.1). *u is
// the next uniform. Returns the number of tokens before the closing BOS.
static size_t generate(const Tape *tape, size_t *tokens, size_t count, const Json **u) {
    double *p = tape->value[tape->count - 1].grad; // free: sampling needs no gradients
    for (size_t t = 0; t < config.block_size; t++) {
        const Tensor *logits = forward(tape, tokens, t);
        if (t + 1 < count) continue;
        double next = must_be(NUMBER, *u, "each uniform that is needed")->number;
        *u = (*u)->next; // S11.5
        tokens[t + 1] = draw_token(value(logits, t), next, p);
        if (tokens[t + 1] == vocab_size - 1) return t + 1; // S11.4
    }
    return config.block_size + 1;
}

// ---------------------------------------------------------------- Random stream

// Python's random.Random, the generator MT19937. Only the level "stream" needs it: for
// the other levels a case contains its weights and its uniforms.
typedef struct {
    uint32_t state[624];
    size_t used;
    bool waiting; // gauss makes numbers in pairs: `second` has not been returned yet
    double second;
} Stream;

static void mix(uint32_t *x, size_t *i, uint32_t factor, uint32_t sum) {
    x[*i] = (x[*i] ^ (x[*i - 1] ^ x[*i - 1] >> 30) * factor) + sum;
    if (++*i == 624) {
        x[0] = x[623];
        *i = 1;
    }
}

static Stream seeded(uint64_t seed) { // init_by_array of the seed's 32-bit words
    Stream r = {.state = {19650218}, .used = 624};
    uint32_t *x = r.state, word[] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words = word[1] ? 2 : 1;
    size_t i = 1;
    for (uint32_t k = 1; k < 624; k++)
        x[k] = 1812433253 * (x[k - 1] ^ x[k - 1] >> 30) + k;
    for (uint32_t k = 0; k < 624; k++) mix(x, &i, 1664525, word[k % words] + k % words);
    for (uint32_t k = 0; k < 623; k++) mix(x, &i, 1566083941, -(uint32_t)i);
    x[0] = 0x80000000;
    return r;
}

static uint32_t getrandbits(Stream *r, int count) { // count: 1 to 32
    uint32_t *x = r->state;
    for (size_t i = 0; i < 624 && r->used == 624; i++) {
        uint32_t y = (x[i] & 0x80000000) | (x[(i + 1) % 624] & 0x7FFFFFFF);
        x[i] = x[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908B0DF : 0);
    }
    r->used %= 624;
    uint32_t y = x[r->used++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680;
    y ^= y << 15 & 0xEFC60000;
    return (y ^ y >> 18) >> (32 - count);
}

static double uniform(Stream *r) { // S1.2
    double high = getrandbits(r, 27);
    return (high * 67108864 + getrandbits(r, 26)) / 9007199254740992;
}

static double gauss(Stream *r) { // S3.4
    r->waiting = !r->waiting;
    if (!r->waiting) return r->second;
    double angle = 2 * PI * uniform(r), radius = sqrt(-2 * log(1 - uniform(r)));
    r->second = sin(angle) * radius;
    return cos(angle) * radius;
}

static void shuffle(Stream *r, const char **documents, size_t count) { // S1.3
    for (size_t i = count; i-- > 1;) {
        int length = 1; // number of bits of i + 1
        while ((i + 1) >> length) length++;
        size_t j = getrandbits(r, length);
        while (j > i) j = getrandbits(r, length);
        const char *other = documents[i];
        documents[i] = documents[j];
        documents[j] = other;
    }
}

// ---------------------------------------------------------------- The case

static void read_config(const Json *json) {
    const char *schedule = get(json, "schedule", STRING)->text;
    config.n_embd = get_whole(json, "n_embd", 1, 4096);
    config.n_head = get_whole(json, "n_head", 1, 256);
    config.n_layer = get_whole(json, "n_layer", 1, 64);
    config.block_size = get_whole(json, "block_size", 1, 4096);
    config.relu_power = get_whole(json, "relu_power", 1, 4);
    config.steps = get_whole(json, "steps", 1, 1e9);
    config.batch_size = get_whole(json, "batch_size", 1, 1e6);
    config.init_std = get_number(json, "init_std", 1e-9, 10);
    config.learning_rate = get_number(json, "learning_rate", 1e-9, 10);
    config.beta1 = get_number(json, "beta1", 0, 0.99999);
    config.beta2 = get_number(json, "beta2", 0, 0.99999);
    config.temperature = get_number(json, "temperature", 1e-3, 1e3);
    config.zero_init = get(json, "zero_init", BOOLEAN)->number != 0;
    config.linear = !strcmp(schedule, "linear");
    config.head_dim = config.n_embd / config.n_head;
    if (!config.linear && strcmp(schedule, "cosine"))
        die("schedule must be cosine or linear");
    if (config.n_embd % config.n_head)
        die("n_embd is %zu: it must be a multiple of n_head, %zu", config.n_embd,
            config.n_head);
}

static void read_matrix(double *x, const Tensor *shape, const Json *start,
                        const char *key) {
    const Json *rows = get(get(start, key, OBJECT), shape->name, LIST);
    bool fits = rows->count == shape->rows;
    for (const Json *row = rows->first; fits && row; row = row->next) {
        fits = row->kind == LIST && row->count == shape->columns;
        for (const Json *y = row->first; fits && y; y = y->next) {
            fits = y->kind == NUMBER;
            *x++ = y->number;
        }
    }
    if (!fits)
        die("%s of %s must be %zu rows of %zu numbers", key, shape->name, shape->rows,
            shape->columns);
}

static void read_documents(const Json *tokens) {
    docs = take(tokens->count, sizeof *docs);
    for (const Json *list = tokens->first; list; list = list->next) {
        Document *doc = &docs[n_docs++];
        if (must_be(LIST, list, "each document in tokens")->count < 2)
            die("each document in tokens must have BOS at both ends");
        doc->n = list->count - 1;
        if (doc->n > config.block_size) doc->n = config.block_size;
        size_t *token = doc->tokens = take(list->count, sizeof *token);
        for (const Json *x = list->first; x; x = x->next) {
            double number = must_be(NUMBER, x, "a token")->number;
            if (number < 0 || number >= (double)vocab_size || number != floor(number))
                die("token %.17g must be a whole number from 0 to %zu", number,
                    vocab_size - 1);
            *token++ = (size_t)number;
        }
    }
    if (!n_docs) die("tokens is empty: it must have at least one document");
}

typedef struct {
    const char *text;
    size_t size;
} Letter;

// The letters of a string. Each letter is one of three things: its UTF-8 bytes, an
// escape such as \u00e9, or two such escapes (a surrogate pair).
static Letter *read_letters(const char *text, size_t *count) {
    Letter *letters = take(strlen(text), sizeof *letters);
    for (*count = 0; *text; ++*count) {
        size_t size = 1;
        if (*text == '\\') {
            size = text[1] == 'u' ? 6 : 2;
            bool half = size == 6 && strchr("dD", text[2]) && strchr("89abAB", text[3]);
            if (half && text[6] == '\\' && text[7] == 'u') size = 12;
        } else
            while ((text[size] & 0xC0) == 0x80) size++;
        letters[*count] = (Letter){text, size};
        text += size;
    }
    return letters;
}

static Letter *letters; // the letter of each token except BOS

static size_t token_of(Letter x) {
    for (size_t token = 0; token < vocab_size - 1; token++)
        if (letters[token].size == x.size &&
            !memcmp(letters[token].text, x.text, x.size))
            return token;
    die("prompt has the letter %.*s, which is not in letters", (int)x.size, x.text);
}

// ---------------------------------------------------------------- The answer

static void put(const char *text) { fputs(text, stdout); }

static void put_number(double x) {
    if (!isfinite(x)) die("the answer has %g: the case must have smaller numbers", x);
    printf("%.17g", x); // 17 digits are enough to give back the same double
}

static void put_list(const double *x, size_t count) {
    put("[");
    for (size_t i = 0; i < count; i++) {
        put(i ? ", " : "");
        put_number(x[i]);
    }
    put("]");
}

// One list of numbers for each row; a row begins `stride` numbers after the one before.
static void put_rows(const double *x, size_t rows, size_t columns, size_t stride) {
    for (size_t i = 0; i < rows; i++) {
        put(i ? ",\n" : "[");
        put_list(x + i * stride, columns);
    }
    put("]");
}

typedef enum { DATA, GRAD, MOMENT1, MOMENT2 } Part;

static double *part(const Tensor *x, Part which) {
    return (double *[]){x->data, x->grad, x->moment1, x->moment2}[which];
}

static void put_weights(const char *before, Part which) {
    put(before);
    for (Tensor *w = weight; w < weight + weights; w++) {
        printf("%s\"%s\": ", w == weight ? "{" : ",\n", w->name);
        put_rows(part(w, which), w->rows, w->columns, w->columns);
    }
    put("}");
}

// Tensor k of every tape: one entry for each document, in it one row for each position.
static void put_values(const char *before, const Tape *tapes, size_t k, Part which) {
    put(before);
    for (size_t b = 0; b < config.batch_size; b++) {
        const Tensor *x = &tapes[b].value[k];
        put(b ? ",\n" : "[");
        for (size_t t = 0; t < pick(b)->n; t++) {
            const double *row = part(x, which) + t * x->columns;
            put(t ? ",\n" : "[");
            if (x->made_by == &SCORES || x->made_by == &ATTENTION)
                put_rows(row, config.n_head, t + 1, config.block_size);
            else
                put_list(row, x->columns);
        }
        put("]");
    }
    put("]");
}

static void put_first_batch(const Tape *tapes) {
    double loss = loss_and_gradients(tapes);
    put(",\n\"loss\": ");
    put_number(loss);
    put_values(",\n\"logits\": ", tapes, tapes->count - 1, DATA);
    put_weights(",\n\"gradients\": ", GRAD);
    for (size_t k = 0; k < tapes->count; k++) {
        put(k ? "},\n" : ",\n\"intermediates\": [");
        printf("{\"name\": \"%s\"", tapes->value[k].name);
        put_values(",\n\"value\": ", tapes, k, DATA);
        put_values(",\n\"gradient\": ", tapes, k, GRAD);
    }
    put("}]");
}

static void put_training(const Tape *tapes, size_t steps) {
    double *losses = take(steps, sizeof *losses);
    for (size_t s = 0; s < steps; s++) {
        losses[s] = loss_and_gradients(tapes);
        adam();
        if (s > 2 && s != 19) continue;
        printf("%s\"%zu\": ", s ? "},\n" : ",\n\"after\": {", s + 1);
        put_weights("{\"weights\": ", DATA);
        put_weights(",\n\"first_moment\": ", MOMENT1);
        put_weights(",\n\"second_moment\": ", MOMENT2);
    }
    put("}},\n\"losses\": ");
    put_list(losses, steps);
}

static void put_names(const Json *json, const Tape *tape) {
    size_t wanted = get_whole(json, "count", 0, 1e9), prompted;
    const Letter *prompt = read_letters(get(json, "prompt", STRING)->text, &prompted);
    const Json *uniforms = get(json, "uniforms", LIST)->first;
    size_t *tokens = take(config.block_size + 1, sizeof *tokens);
    if (prompted >= config.block_size)
        die("prompt has %zu letters: it must have fewer than block_size, %zu", prompted,
            config.block_size);
    tokens[0] = vocab_size - 1; // BOS
    for (size_t t = 0; t < prompted; t++) tokens[t + 1] = token_of(prompt[t]);
    put(",\n\"names\": [");
    for (size_t i = 0; i < wanted; i++) {
        size_t count = generate(tape, tokens, prompted + 1, &uniforms);
        put(i ? ", \"" : "\"");
        for (size_t t = 1; t < count; t++)
            printf("%.*s", (int)letters[tokens[t]].size, letters[tokens[t]].text);
        put("\"");
    }
    put("]");
}

static void put_stream(const Json *stream) {
    const Json *documents = find(must_be(OBJECT, stream, "stream"), "documents");
    if (documents && documents->kind == STRING)
        return; // "names" stands for a file that a port does not have
    must_be(LIST, documents, "documents");
    const double most = 9007199254740992; // 2^53: above, doubles skip whole numbers
    Stream r = seeded(get_whole(stream, "seed", 0, most));
    const char **order = take(documents->count, sizeof *order);
    size_t count = 0;
    for (const Json *x = documents->first; x; x = x->next)
        order[count++] = must_be(STRING, x, "each document")->text;
    shuffle(&r, order, count);
    put(",\n\"stream\": {\"shuffled\": [");
    for (size_t i = 0; i < count; i++) printf("%s\"%s\"", i ? ", " : "", order[i]);
    put("]");
    for (Tensor *w = weight; w < weight + weights; w++) // overwrite the trained ones
        for (size_t i = 0; i < size_of(w); i++) w->data[i] = w->std * gauss(&r);
    put_weights(",\n\"weights\": ", DATA);
    put("}");
}

int main(void) {
    atexit(give_back);
    const Json *json = must_be(OBJECT, read_json(stdin), "the case");
    const Json *start = get(json, "start", OBJECT), *stream = find(json, "stream");
    read_config(get(json, "config", OBJECT));
    letters = read_letters(get(json, "letters", STRING)->text, &vocab_size);
    vocab_size++; // BOS
    read_documents(get(json, "tokens", LIST));
    create();
    for (Tensor *w = weight; w < weight + weights; w++) {
        read_matrix(w->data, w, start, "weights");
        read_matrix(w->moment1, w, start, "first_moment");
        read_matrix(w->moment2, w, start, "second_moment");
    }
    step = get_whole(start, "step", 0, 1e9);
    size_t steps = get_whole(json, "steps", 0, 1e9);
    Tape *tapes = take(config.batch_size, sizeof *tapes);
    for (size_t b = 0; b < config.batch_size; b++) tapes[b] = record();

    printf("{\"id\": \"%s\", \"dtype\": \"float64\",\n", get(json, "id", STRING)->text);
    put("\"levels\": [\"forward\", \"gradients\", \"training\", \"sampling\",");
    put(" \"stream\"]");
    put_names(json, tapes); // before training changes the weights
    if (steps) {
        put_first_batch(tapes);
        put_training(tapes, steps);
    }
    if (stream) put_stream(stream);
    put("}\n");
    if (fflush(stdout) || ferror(stdout))
        die("cannot write the answer to standard output");
}
