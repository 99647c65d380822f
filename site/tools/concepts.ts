// What Rosetta shows: for each concept the section and the names to cut from each version.

export interface Concept {
  id: string;
  title: string;
  says: string;
  formula: string;
  rule: string;
  /** Which check of `microgpt verify` measures it. */
  check: string;
  /** {version: [section, name, …]} */
  cuts: Record<string, [string, ...string[]]>;
}

const PURE = "01_pure_python";
const NUMPY = "02_numpy_manual_backprop";
const TORCH = "03_pytorch";
const BATCHED = "04_pytorch_batched";
const JAX = "05_jax";
const MLX = "06_mlx";
const JAX_BATCHED = "07_jax_batched";
const MLX_BATCHED = "08_mlx_batched";
const NUMBA = "09_numba";
const PACKED = "11_pytorch_packed";

const FORWARD = "Forward";
const TRAINING = "Loss and training";
const INTERFACE = "Interface";

export const CONCEPTS: Concept[] = [
  {
    id: "tokenizer",
    title: "Tokenizer",
    says: "A token is a whole number that stands for a letter. Only 01 has a tokenizer, and every version imports it. Beside it stands the code with which a version splits these tokens into inputs and targets, or makes arrays of them.",
    formula: String.raw`\mathrm{BOS},\; x_1,\; \dots,\; x_\ell,\; \mathrm{BOS}`,
    rule: "S2.2",
    check: "stream",
    cuts: {
      [PURE]: ["Tokens", "Tokenizer"], [NUMPY]: [TRAINING, "loss_and_backward"], [TORCH]: [TRAINING, "loss_and_backward"],
      [BATCHED]: [TRAINING, "pad"], [JAX]: [TRAINING, "pad"], [MLX]: [TRAINING, "pad"], [PACKED]: [TRAINING, "pack"],
    },
  },
  {
    id: "weights",
    title: "Initial weights",
    says: "01 draws them for every version, from one random stream and in one order. Each version turns the rows into arrays of its own.",
    formula: String.raw`w = \sigma z`,
    rule: "S3.3",
    check: "stream",
    cuts: {
      [PURE]: ["Parameters", "shapes", "initial"], [NUMPY]: ["Parameters", "matrices"], [TORCH]: ["Parameters", "from_rows"],
      [JAX]: ["Parameters", "from_rows"], [MLX]: ["Parameters", "from_rows"], [NUMBA]: ["Parameters", "weight_axes"],
    },
  },
  {
    id: "rmsnorm",
    title: "RMSNorm",
    says: "A vector is divided by the root of its mean square, so that its size no longer matters. 01 works on one vector of scalars; the others scale each row of a matrix, and two frameworks have a function for it, whose eps must be given.",
    formula: String.raw`y = x \Big/ \sqrt{\tfrac1C \textstyle\sum_i x_i^2 + \epsilon}`,
    rule: "S5.1",
    check: "logits",
    cuts: {
      [PURE]: [FORWARD, "rmsnorm"], [NUMPY]: [FORWARD, "rmsnorm"], [TORCH]: [FORWARD, "rmsnorm"],
      [JAX]: [FORWARD, "rmsnorm"], [MLX]: [FORWARD, "rmsnorm"], [NUMBA]: [FORWARD, "rmsnorm"],
    },
  },
  {
    id: "attention",
    title: "Attention",
    says: "Each head averages the values so far, by how well the query matches each key. 01 needs no mask, because it has only the tokens so far at hand; the others compute all positions at once and mask the later ones.",
    formula: String.raw`o_t = \sum_{u \le t} \mathrm{softmax}_u\!\left(\frac{\langle q_t, k_u \rangle}{\sqrt D}\right) v_u`,
    rule: "S6.5",
    check: "logits",
    cuts: {
      [PURE]: [FORWARD, "attention"], [NUMPY]: [FORWARD, "attention"], [TORCH]: [FORWARD, "attention"],
      [JAX]: [FORWARD, "attention"], [MLX]: [FORWARD, "Layer.attention"],
      [MLX_BATCHED]: [FORWARD, "Layer.attention"], [NUMBA]: [FORWARD, "attention"], [PACKED]: [FORWARD, "attention"],
    },
  },
  {
    id: "forward",
    title: "The whole forward pass",
    says: "From tokens to logits. The order is the same everywhere: embeddings, a norm, then attention and MLP in each layer, then the output matrix without a norm before it.",
    formula: String.raw`z_t = \mathrm{lm\_head}\, x_t`,
    rule: "S4.4",
    check: "logits",
    cuts: {
      [PURE]: [FORWARD, "forward"], [NUMPY]: [FORWARD, "forward"], [TORCH]: [FORWARD, "GPT.forward", "Layer.forward"],
      [JAX]: [FORWARD, "forward"], [MLX]: [FORWARD, "GPT.__call__", "Layer.__call__", "Layer.mlp"],
      [NUMBA]: [FORWARD, "forward"],
    },
  },
  {
    id: "activation",
    title: "Activation and MLP",
    says: "Negative numbers become zero, the others are raised to the recipe's power. 01 has a function with the slope beside it; the frameworks' versions write it into the layer.",
    formula: String.raw`b = \max(0, a)^p`,
    rule: "S7.2",
    check: "logits",
    cuts: {
      [PURE]: ["Autograd", "relu"], [NUMPY]: [FORWARD, "forward"], [TORCH]: [FORWARD, "Layer.forward"],
      [MLX]: [FORWARD, "Layer.mlp"], [NUMBA]: [FORWARD, "activation"],
    },
  },
  {
    id: "loss",
    title: "Loss",
    says: "Cross-entropy: how surprised the model is by the letter that follows. The mean is over all targets of the batch. Versions without autograd compute the gradient of the logits in the same place.",
    formula: String.raw`-\ln \mathrm{softmax}(z)_y = \ln\sum_i e^{z_i} - z_y`,
    rule: "S8.1",
    check: "loss",
    cuts: {
      [PURE]: ["Autograd", "cross_entropy"], [NUMPY]: [TRAINING, "cross_entropy"], [TORCH]: [TRAINING, "loss_and_backward"],
      [BATCHED]: [TRAINING, "mean_loss"], [JAX]: [TRAINING, "document_loss"], [MLX]: [TRAINING, "document_loss"],
      [NUMBA]: [TRAINING, "cross_entropy"], [PACKED]: [TRAINING, "loss_and_backward"],
    },
  },
  {
    id: "backward",
    title: "Backward",
    says: "The chain rule from the loss back to every weight. 01 walks back over a list of scalars, 02 and 09 write each gradient by hand, and the frameworks derive it from the forward pass.",
    formula: String.raw`\partial x = r\,(\partial y - y\,\tfrac1C \langle y, \partial y\rangle)`,
    rule: "S8.3",
    check: "grads",
    cuts: {
      [PURE]: ["Autograd", "backward"], [NUMPY]: ["Backward", "backward", "rmsnorm_backward"],
      [TORCH]: [TRAINING, "loss_and_backward"], [JAX]: [TRAINING, "loss_and_grad"], [MLX]: [TRAINING, "gradients"],
      [NUMBA]: ["Backward", "rmsnorm_backward", "linear_backward"],
    },
  },
  {
    id: "adam",
    title: "Adam",
    says: "Each weight moves against its mean gradient, divided by the gradient's usual size. The correction for moments that start at zero is easy to forget: MLX leaves it out unless it is asked for.",
    formula: String.raw`\theta \leftarrow \theta - \eta_s\, \hat m / (\sqrt{\hat v} + \epsilon)`,
    rule: "S9.4",
    check: "moments",
    cuts: {
      [PURE]: [TRAINING, "adam"], [NUMPY]: [TRAINING, "adam"], [TORCH]: [TRAINING, "adam"],
      [JAX]: [TRAINING, "adam"], [MLX]: [TRAINING, "take_step"], [NUMBA]: [TRAINING, "adam"],
    },
  },
  {
    id: "loop",
    title: "Training loop",
    says: "One step for each batch. JAX takes many steps in one compiled call; MLX goes on before a loss is computed.",
    formula: String.raw`\eta_s = \tfrac12\eta\,(1 + \cos(\pi s / S))`,
    rule: "S10.1",
    check: "losses",
    cuts: {
      [PURE]: [TRAINING, "train"], [NUMPY]: [TRAINING, "train"], [TORCH]: [TRAINING, "train"],
      [JAX]: [TRAINING, "take_steps", "train"], [MLX]: [TRAINING, "train"],
      [JAX_BATCHED]: [TRAINING, "step", "train"], [NUMBA]: [TRAINING, "steps", "train"],
    },
  },
  {
    id: "batching",
    title: "Batching",
    says: "Names have different lengths. They are computed one after the other, padded to one length, or packed into one row without padding.",
    formula: String.raw`n = \min(T, \ell + 1)`,
    rule: "S8.2",
    check: "loss",
    cuts: {
      [PURE]: [TRAINING, "batches"], [BATCHED]: [TRAINING, "pad"], [JAX]: [TRAINING, "pad"], [MLX]: [TRAINING, "pad"],
      [JAX_BATCHED]: [TRAINING, "pad"], [MLX_BATCHED]: [TRAINING, "pack"], [NUMBA]: [TRAINING, "pack"], [PACKED]: [TRAINING, "pack"],
    },
  },
  {
    id: "sampling",
    title: "Sampling",
    says: "One random number chooses one letter: the first whose running sum of probabilities exceeds it. Only 01 has the sampler. It asks the version for logits, so the same random numbers give the same names.",
    formula: String.raw`\min\left\{ i : \textstyle\sum_{j \le i} \mathrm{softmax}(z/\tau)_j > u \right\}`,
    rule: "S11.3",
    check: "names",
    cuts: {
      [PURE]: ["Sampling", "generate"], [NUMPY]: [INTERFACE, "logits"], [TORCH]: [INTERFACE, "logits"],
      [BATCHED]: [INTERFACE, "logits"], [JAX]: [INTERFACE, "compiled_logits", "logits"], [MLX]: [INTERFACE, "logits"],
      [NUMBA]: [INTERFACE, "logits"], [PACKED]: [INTERFACE, "logits"],
    },
  },
  {
    id: "linear",
    title: "Matrix times vector",
    says: "What a layer does most. In 01 each row is one value that remembers all its inputs; NumPy multiplies whole matrices, and Numba is a loop that is compiled.",
    formula: String.raw`y_i = \textstyle\sum_j w_{ij} x_j`,
    rule: "S6.1",
    check: "logits",
    cuts: {
      [PURE]: ["Autograd", "linear"], [NUMPY]: [FORWARD, "linear"], [NUMBA]: [FORWARD, "linear"],
    },
  },
];
