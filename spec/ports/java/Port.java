// microGPT in Java: where a port begins. README.md says how to build and verify it.
//
// It reads a case as words and numbers from standard input and writes its answer in the
// same way. bridge.py makes these from the JSON of the cases, and describes both. Fill in
// the functions under "To be filled" one after the other, and add each level to LEVELS as
// soon as it is written. A comment such as S6.3 names a rule of SPEC.md.
//
// n targets of a document, V vocabSize

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.StringTokenizer;

public class Port {
    // What is written so far: "forward", "gradients", "training", "sampling", "stream".
    static final List<String> LEVELS = List.of();
    static final String DTYPE = "float64"; // or "float32": it selects the tolerances

    @SuppressWarnings("serial")
    static class Problem extends RuntimeException {
        Problem(String text) {
            super(text);
        }
    }

    static Problem notWritten(String function) {
        return new Problem(function + " is not written yet: take its level out of LEVELS");
    }

    // ---------------------------------------------------------------- The model

    static class Config {
        int nEmbd, nHead, nLayer, blockSize;
        double initStd;
        int zeroInit, reluPower; // zeroInit is 0 or 1
        double learningRate, beta1, beta2;
        int linear; // the schedule: 1 linear, 0 cosine
        int totalSteps; // S of S10
        int batchSize;
        double temperature;
    }

    static class Weight {
        String name; // S3.1
        int rows, columns;
        double[] data, grad, firstMoment, secondMoment; // row by row
    }

    static class Model {
        Config config;
        int vocabSize; // BOS is the last token
        Weight[] weights; // in the order of S3.2: wte wpe lm_head layer0.attn_wq …
    }

    // The uniform numbers of the case. next() gives the next one (S11.3).
    static class Uniforms {
        double[] numbers;
        int used;

        double next() {
            if (used == numbers.length)
                throw new Problem("the case has no more uniforms: S11.5");
            return numbers[used++];
        }
    }

    // ---------------------------------------------------------------- To be filled
    //
    // A batch is an array of documents. A document has n + 1 tokens, cut to the block: the
    // first n are the inputs, the last n the targets.

    // Why this port has no answer to a case, or "". For instance:
    // if (model.config.nLayer != 1) return "it has one layer only";
    static String declines(Model model) {
        return "";
    }

    // Level forward: the logits of the next token after each position of one document (S4
    // to S7): n rows of V numbers, one after the other.
    static double[] forward(Model model, int[] inputs) {
        throw notWritten("forward");
    }

    // Level forward: the mean loss of all targets of a batch (S8).
    static double loss(Model model, int[][] batch) {
        throw notWritten("loss");
    }

    // Level gradients: the gradient of that loss, into the grad of each weight.
    static void gradients(Model model, int[][] batch) {
        throw notWritten("gradients");
    }

    // Level training: the loss of a batch; then one step of Adam (S9) with the learning
    // rate of that step (S10) changes data and both moments. step counts from 0.
    static double trainStep(Model model, int[][] batch, int step) {
        throw notWritten("trainStep");
    }

    // Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
    static int[] sample(Model model, int[] prompt, Uniforms uniforms) {
        throw notWritten("sample");
    }

    // Level stream: from the seed, given as 32-bit words, shuffle the documents' numbers
    // 0, 1, … (S1.3), then draw the initial weights into the data of each weight (S3).
    static void stream(Model model, long[] seed, int[] order) {
        throw notWritten("stream");
    }

    // ---------------------------------------------------------------- The case

    static StringTokenizer words;

    static String next() {
        if (!words.hasMoreTokens()) throw new Problem("the case ends too early");
        return words.nextToken();
    }

    // The next word, which must begin with `wanted`; returns what follows that: a name.
    static String word(String wanted) {
        String text = next();
        if (!text.startsWith(wanted))
            throw new Problem("the case has \"" + text + "\" where " + wanted + " must be");
        return text.substring(wanted.length());
    }

    static int whole(String name) {
        word(name);
        return Integer.parseInt(next());
    }

    static double real(String name) {
        word(name);
        return Double.parseDouble(next());
    }

    static double[] numbers(int count) {
        double[] x = new double[count];
        for (int i = 0; i < count; i++) x[i] = Double.parseDouble(next());
        return x;
    }

    static int[] tokens(String name) {
        int[] x = new int[whole(name)];
        for (int i = 0; i < x.length; i++) x[i] = Integer.parseInt(next());
        return x;
    }

    static Config readConfig() {
        Config c = new Config();
        c.nEmbd = whole("n_embd");
        c.nHead = whole("n_head");
        c.nLayer = whole("n_layer");
        c.blockSize = whole("block_size");
        c.initStd = real("init_std");
        c.zeroInit = whole("zero_init");
        c.reluPower = whole("relu_power");
        c.learningRate = real("learning_rate");
        c.beta1 = real("beta1");
        c.beta2 = real("beta2");
        c.linear = whole("linear");
        c.totalSteps = whole("total_steps");
        c.batchSize = whole("batch_size");
        c.temperature = real("temperature");
        return c;
    }

    static double[] readMatrix(String part, Weight w) {
        w.name = word(part);
        w.rows = Integer.parseInt(next());
        w.columns = Integer.parseInt(next());
        return numbers(w.rows * w.columns);
    }

    static Weight[] readWeights(Config config) {
        Weight[] weights = new Weight[3 + 6 * config.nLayer];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = new Weight();
            weights[i].data = readMatrix("weights:", weights[i]);
            weights[i].grad = new double[weights[i].data.length];
        }
        for (Weight w : weights) w.firstMoment = readMatrix("first_moment:", w);
        for (Weight w : weights) w.secondMoment = readMatrix("second_moment:", w);
        return weights;
    }

    static int[][] readDocuments(Config config) {
        int[][] documents = new int[whole("documents")][];
        for (int i = 0; i < documents.length; i++) {
            int[] all = tokens("document");
            int size = Math.min(all.length, config.blockSize + 1); // S2.3
            documents[i] = Arrays.copyOf(all, size);
        }
        return documents;
    }

    // The documents of a step (S1.4).
    static int[][] batchOf(Config config, int[][] documents, int step) {
        int[][] batch = new int[config.batchSize][];
        for (int b = 0; b < batch.length; b++) {
            long place = (long) step * config.batchSize + b;
            batch[b] = documents[(int) (place % documents.length)];
        }
        return batch;
    }

    // ---------------------------------------------------------------- The answer

    static final StringBuilder out = new StringBuilder();

    // Java writes as many digits as give back the same double.
    static void put(String label, double... numbers) {
        out.append(label);
        for (double x : numbers) out.append(' ').append(x);
        out.append('\n');
    }

    static void put(String label, int[] numbers) {
        out.append(label);
        for (int x : numbers) out.append(' ').append(x);
        out.append('\n');
    }

    static void putTraining(Model model, int[][] documents, int start, int steps) {
        double[] losses = new double[steps];
        for (int s = 1; s <= steps; s++) {
            int step = start + s - 1;
            losses[s - 1] = trainStep(model, batchOf(model.config, documents, step), step);
            if (s > 3 && s != 20) continue;
            for (Weight w : model.weights) {
                put("after:" + s + ":weights:" + w.name, w.data);
                put("after:" + s + ":first_moment:" + w.name, w.firstMoment);
                put("after:" + s + ":second_moment:" + w.name, w.secondMoment);
            }
        }
        put("losses", losses);
    }

    static void answer() {
        Model model = new Model();
        model.config = readConfig();
        model.vocabSize = whole("vocab_size");
        int[][] documents = readDocuments(model.config);
        int start = whole("step");
        model.weights = readWeights(model.config);
        int steps = whole("steps");
        int[] prompt = tokens("prompt");
        int count = whole("count");
        Uniforms uniforms = new Uniforms();
        uniforms.numbers = numbers(whole("uniforms"));
        long[] seed = new long[whole("seed")];
        for (int i = 0; i < seed.length; i++) seed[i] = Long.parseLong(next());
        int[] order = new int[whole("shuffle")];
        for (int i = 0; i < order.length; i++) order[i] = i;

        String why = LEVELS.isEmpty() ? "not written yet" : declines(model);
        if (!why.isEmpty()) {
            out.append("declined ").append(why).append('\n');
            return;
        }
        out.append("levels ").append(String.join(" ", LEVELS)).append('\n');
        out.append("dtype ").append(DTYPE).append('\n');
        for (int i = 0; LEVELS.contains("sampling") && i < count; i++)
            put("name", sample(model, prompt, uniforms));
        int[][] batch = batchOf(model.config, documents, start);
        if (steps > 0 && LEVELS.contains("forward")) {
            put("logits");
            for (int[] document : batch) // the last token is a target only
                put("", forward(model, Arrays.copyOf(document, document.length - 1)));
            put("loss", loss(model, batch));
        }
        if (steps > 0 && LEVELS.contains("gradients")) {
            gradients(model, batch);
            for (Weight w : model.weights) put("gradient:" + w.name, w.grad);
        }
        if (steps > 0 && LEVELS.contains("training"))
            putTraining(model, documents, start, steps);
        if (seed.length > 0 && LEVELS.contains("stream")) {
            stream(model, seed, order);
            put("shuffled", order);
            for (Weight w : model.weights) put("initial:" + w.name, w.data);
        }
    }

    public static void main(String[] arguments) throws IOException {
        byte[] input = System.in.readAllBytes();
        words = new StringTokenizer(new String(input, StandardCharsets.UTF_8));
        try {
            answer();
        } catch (Problem | NumberFormatException e) {
            System.err.println("error: " + e.getMessage());
            System.exit(2);
        }
        System.out.print(out);
    }
}
