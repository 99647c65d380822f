// microGPT in C: where a port begins. README.md says how to build and verify it.
//
// It reads a case as words and numbers from standard input and writes its answer in the
// same way. bridge.py makes these from the JSON of the cases, and describes both. Fill in
// the functions under "To be filled" one after the other, and add each level to LEVELS as
// soon as it is written. A comment such as S6.3 names a rule of SPEC.md.
//
// n targets of a document, t a position, V vocab_size

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is written so far: "forward", "gradients", "training", "sampling", "stream".
static const char *const LEVELS[] = {NULL};
static const char DTYPE[] = "float64"; // or "float32": it selects the tolerances

static void die(const char *what, const char *value) {
    fprintf(stderr, "error: %s: %s\n", what, value);
    exit(2);
}

static void not_written(const char *function) {
    die(function, "is not written yet: take its level out of LEVELS");
}

// ---------------------------------------------------------------- The model

typedef struct {
    int n_embd, n_head, n_layer, block_size;
    double init_std;
    int zero_init, relu_power;
    double learning_rate, beta1, beta2;
    int linear;      // the schedule: 1 linear, 0 cosine
    int total_steps; // S of S10
    int batch_size;
    double temperature;
} Config;

typedef struct {
    char name[40]; // S3.1
    int rows, columns;
    double *data, *grad, *first_moment, *second_moment; // rows * columns, row by row
} Weight;

typedef struct {
    int n;       // targets
    int *tokens; // n + 1: tokens 0 to n - 1 are the inputs, tokens 1 to n the targets
} Document;

static Config config;
static int vocab_size; // BOS is the last token
static Weight *weights;
static int n_weights; // in the order of S3.2: wte wpe lm_head layer0.attn_wq …

// The next uniform number of the case, for sampling (S11.3).
static double uniform(void);

// ---------------------------------------------------------------- To be filled

// Why this port has no answer to a case, or NULL. For instance:
// if (config.n_layer != 1) return "it has one layer only";
static const char *declines(void) { return NULL; }

// Level forward: the logits of the next token after each position of one document (S4 to
// S7), n rows of V numbers.
static void forward(const int *tokens, int n, double *logits) {
    (void)tokens, (void)n, (void)logits;
    not_written("forward");
}

// Level forward: the mean loss of all targets of a batch (S8).
static double loss(const Document *batch, int count) {
    (void)batch, (void)count;
    not_written("loss");
    return 0;
}

// Level gradients: the gradient of that loss, into the grad of each weight.
static void gradients(const Document *batch, int count) {
    (void)batch, (void)count;
    not_written("gradients");
}

// Level training: the loss of a batch; then one step of Adam (S9) with the learning rate
// of that step (S10) changes data and both moments. step counts from 0.
static double train_step(const Document *batch, int count, int step) {
    (void)batch, (void)count, (void)step;
    not_written("train_step");
    return 0;
}

// Level sampling: add the letters of one name (S11) to the tokens, which hold the
// prompt_size tokens of the prompt, without BOS. Returns how many tokens there are then.
static int sample(int *tokens, int prompt_size) {
    (void)tokens, (void)prompt_size, (void)uniform;
    not_written("sample");
    return 0;
}

// Level stream: from the seed, given as 32-bit words, shuffle the documents' numbers
// 0 … count - 1 (S1.3), then draw the initial weights into the data of each weight (S3).
static void stream(const unsigned *seed, int words, int *order, int count) {
    (void)seed, (void)words, (void)order, (void)count;
    not_written("stream");
}

// ---------------------------------------------------------------- The case

static void *take(int count, size_t size) {
    void *memory = calloc((size_t)count + 1, size);
    if (!memory) die("out of memory", "the case is too large");
    return memory;
}

// The next word, which must begin with `wanted`; what follows that is the name.
static const char *word(const char *wanted) {
    static char text[80];
    if (scanf("%79s", text) != 1) die("the case ends before", wanted);
    if (strncmp(text, wanted, strlen(wanted))) die(wanted, "is not what comes next");
    return text + strlen(wanted);
}

static double number(void) {
    double x;
    if (scanf("%lf", &x) != 1) die("the case", "a number is missing");
    return x;
}

static int whole(const char *name) {
    word(name);
    return (int)number();
}

static double real(const char *name) {
    word(name);
    return number();
}

static double *numbers(int count) {
    double *x = take(count, sizeof *x);
    for (int i = 0; i < count; i++) x[i] = number();
    return x;
}

static int *tokens_of(int count, int room) {
    int *x = take(room, sizeof *x);
    for (int i = 0; i < count; i++) x[i] = (int)number();
    return x;
}

static void read_config(void) {
    config.n_embd = whole("n_embd");
    config.n_head = whole("n_head");
    config.n_layer = whole("n_layer");
    config.block_size = whole("block_size");
    config.init_std = real("init_std");
    config.zero_init = whole("zero_init");
    config.relu_power = whole("relu_power");
    config.learning_rate = real("learning_rate");
    config.beta1 = real("beta1");
    config.beta2 = real("beta2");
    config.linear = whole("linear");
    config.total_steps = whole("total_steps");
    config.batch_size = whole("batch_size");
    config.temperature = real("temperature");
}

static double *read_matrix(const char *part, Weight *w) {
    const char *name = word(part);
    snprintf(w->name, sizeof w->name, "%s", name);
    w->rows = (int)number();
    w->columns = (int)number();
    return numbers(w->rows * w->columns);
}

static void read_weights(void) {
    n_weights = 3 + 6 * config.n_layer;
    weights = take(n_weights, sizeof *weights);
    for (Weight *w = weights; w < weights + n_weights; w++)
        w->data = read_matrix("weights:", w);
    for (Weight *w = weights; w < weights + n_weights; w++)
        w->first_moment = read_matrix("first_moment:", w);
    for (Weight *w = weights; w < weights + n_weights; w++) {
        w->second_moment = read_matrix("second_moment:", w);
        w->grad = take(w->rows * w->columns, sizeof *w->grad);
    }
}

static Document *documents;
static int n_documents;

static void read_documents(void) {
    n_documents = whole("documents");
    documents = take(n_documents, sizeof *documents);
    for (Document *d = documents; d < documents + n_documents; d++) {
        int count = whole("document");
        d->tokens = tokens_of(count, count);
        d->n = count - 1 < config.block_size ? count - 1 : config.block_size; // S2.3
    }
}

// The documents of a step (S1.4).
static const Document *batch_of(int step) {
    static Document *batch;
    if (!batch) batch = take(config.batch_size, sizeof *batch);
    for (int b = 0; b < config.batch_size; b++) {
        long long place = (long long)step * config.batch_size + b;
        batch[b] = documents[place % n_documents];
    }
    return batch;
}

static double *uniforms;
static int uniforms_left;

static double uniform(void) {
    if (uniforms_left-- <= 0) die("uniforms", "the case has no more: S11.5");
    return *uniforms++;
}

// ---------------------------------------------------------------- The answer

static int has(const char *level) {
    for (int i = 0; LEVELS[i]; i++)
        if (!strcmp(LEVELS[i], level)) return 1;
    return 0;
}

static void put_numbers(const double *x, int count) {
    for (int i = 0; i < count; i++) printf(" %.17g", x[i]); // gives back the same double
    putchar('\n');
}

static void put_names(int count, const int *prompt, int prompt_size) {
    int *tokens = take(config.block_size, sizeof *tokens);
    for (int i = 0; i < count; i++) {
        if (prompt_size) memcpy(tokens, prompt, (size_t)prompt_size * sizeof *tokens);
        int size = sample(tokens, prompt_size);
        printf("name");
        for (int t = 0; t < size; t++) printf(" %d", tokens[t]);
        putchar('\n');
    }
}

static void put_forward(const Document *batch) {
    double *logits = take(config.block_size * vocab_size, sizeof *logits);
    printf("logits\n");
    for (int b = 0; b < config.batch_size; b++) {
        forward(batch[b].tokens, batch[b].n, logits);
        put_numbers(logits, batch[b].n * vocab_size);
    }
    printf("loss %.17g\n", loss(batch, config.batch_size));
}

static void put_weight(const char *part, const Weight *w, const double *x) {
    printf("%s:%s", part, w->name);
    put_numbers(x, w->rows * w->columns);
}

static void put_gradients(const Document *batch) {
    gradients(batch, config.batch_size);
    for (Weight *w = weights; w < weights + n_weights; w++)
        put_weight("gradient", w, w->grad);
}

static void put_training(int start, int steps) {
    double *losses = take(steps, sizeof *losses);
    for (int s = 0; s < steps; s++) {
        losses[s] = train_step(batch_of(start + s), config.batch_size, start + s);
        if (s > 2 && s != 19) continue;
        char part[40];
        for (Weight *w = weights; w < weights + n_weights; w++) {
            snprintf(part, sizeof part, "after:%d:weights", s + 1);
            put_weight(part, w, w->data);
            snprintf(part, sizeof part, "after:%d:first_moment", s + 1);
            put_weight(part, w, w->first_moment);
            snprintf(part, sizeof part, "after:%d:second_moment", s + 1);
            put_weight(part, w, w->second_moment);
        }
    }
    printf("losses");
    put_numbers(losses, steps);
}

static void put_stream(const unsigned *seed, int words, int count) {
    int *order = take(count, sizeof *order);
    for (int i = 0; i < count; i++) order[i] = i;
    stream(seed, words, order, count);
    printf("shuffled");
    for (int i = 0; i < count; i++) printf(" %d", order[i]);
    putchar('\n');
    for (Weight *w = weights; w < weights + n_weights; w++)
        put_weight("initial", w, w->data);
}

int main(void) {
    read_config();
    vocab_size = whole("vocab_size");
    read_documents();
    int start = whole("step");
    read_weights();
    int steps = whole("steps"), prompt_size = whole("prompt");
    int *prompt = tokens_of(prompt_size, prompt_size), count = whole("count");
    uniforms_left = whole("uniforms");
    uniforms = numbers(uniforms_left);
    int words = whole("seed");
    unsigned *seed = take(words, sizeof *seed);
    for (int i = 0; i < words; i++) seed[i] = (unsigned)number();
    int shuffle = whole("shuffle");

    const char *why = LEVELS[0] ? declines() : "not written yet";
    if (why) {
        printf("declined %s\n", why);
        return 0;
    }
    printf("levels");
    for (int i = 0; LEVELS[i]; i++) printf(" %s", LEVELS[i]);
    printf("\ndtype %s\n", DTYPE);
    if (has("sampling")) put_names(count, prompt, prompt_size);
    if (steps && has("forward")) put_forward(batch_of(start));
    if (steps && has("gradients")) put_gradients(batch_of(start));
    if (steps && has("training")) put_training(start, steps); // changes the weights
    if (words && has("stream")) put_stream(seed, words, shuffle); // overwrites them
    return 0;
}
