# microGPT in Julia: where a port begins. README.md says how to run and verify it.
#
# It reads a case as words and numbers from standard input and writes its answer in the
# same way. bridge.py makes these from the JSON of the cases, and describes both. Fill in
# the functions under "To be filled" one after the other, and add each level to LEVELS as
# soon as it is written. A comment such as S6.3 names a rule of SPEC.md.
#
# n targets of a document, V vocab_size. Tokens and steps count from 0, as in SPEC.md.

# What is written so far: "forward", "gradients", "training", "sampling", "stream".
const LEVELS = String[]
const DTYPE = "float64" # or "float32": it selects the tolerances

not_written(name) = error("$name is not written yet: take its level out of LEVELS")

# ---------------------------------------------------------------- The model

struct Config
    n_embd::Int
    n_head::Int
    n_layer::Int
    block_size::Int
    init_std::Float64
    zero_init::Int # 0 or 1
    relu_power::Int
    learning_rate::Float64
    beta1::Float64
    beta2::Float64
    linear::Int # the schedule: 1 linear, 0 cosine
    total_steps::Int # S of S10
    batch_size::Int
    temperature::Float64
end

mutable struct Weight
    name::String # S3.1
    data::Matrix{Float64} # (rows, columns), as are the other three
    grad::Matrix{Float64}
    first_moment::Matrix{Float64}
    second_moment::Matrix{Float64}
end

struct Model
    config::Config
    vocab_size::Int # BOS is the token vocab_size - 1
    weights::Vector{Weight} # in the order of S3.2: wte wpe lm_head layer0.attn_wq …
end

# ---------------------------------------------------------------- To be filled
#
# A batch is a list of documents. A document has n + 1 tokens, cut to the block: the first
# n are the inputs, the last n the targets.

# Why this port has no answer to a case, or "". For instance:
# if model.config.n_layer != 1 return "it has one layer only" end
declines(model) = ""

# Level forward: the logits of the next token after each position of one document (S4 to
# S7), a matrix (n, V).
forward(model, inputs) = not_written("forward")

# Level forward: the mean loss of all targets of a batch (S8).
loss(model, batch) = not_written("loss")

# Level gradients: the gradient of that loss, into the grad of each weight.
gradients(model, batch) = not_written("gradients")

# Level training: the loss of a batch; then one step of Adam (S9) with the learning rate
# of that step (S10) changes data and both moments. step counts from 0.
train_step(model, batch, step) = not_written("train_step")

# Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
# uniform() is the next uniform number of the case (S11.3).
sample(model, prompt, uniform) = not_written("sample")

# Level stream: from the seed, given as 32-bit words, shuffle the documents' numbers
# 0, 1, … (S1.3), then draw the initial weights into the data of each weight (S3).
stream(model, seed, order) = not_written("stream")

# ---------------------------------------------------------------- The case

const words = Iterators.Stateful(split(read(stdin, String)))

# The next word, which must begin with `wanted`; returns what follows that: a name.
function word(wanted)
    text = popfirst!(words)
    startswith(text, wanted) || error("the case has $text where $wanted must be")
    return String(text[length(wanted)+1:end])
end

number(T) = parse(T, popfirst!(words))
numbers(T, count) = T[number(T) for _ in 1:count]

function value(T, name)
    word(name)
    return number(T)
end

list(T, name) = numbers(T, value(Int, name))

function read_config()
    names = fieldnames(Config) # in the order of the case
    return Config((value(fieldtype(Config, name), string(name)) for name in names)...)
end

# A name and its matrix. Numbers come row by row, and Julia stores columns.
function read_matrix(part)
    name = word(part)
    rows, columns = number(Int), number(Int)
    return name, permutedims(reshape(numbers(Float64, rows * columns), columns, rows))
end

function read_weights(config)
    weights = map(1:3+6*config.n_layer) do _
        name, data = read_matrix("weights:")
        Weight(name, data, zero(data), zero(data), zero(data))
    end
    for w in weights
        w.first_moment = read_matrix("first_moment:")[2]
    end
    for w in weights
        w.second_moment = read_matrix("second_moment:")[2]
    end
    return weights
end

function read_document(config)
    tokens = list(Int, "document")
    return tokens[1:min(end, config.block_size + 1)] # S2.3
end

# The documents of a step (S1.4).
function batch_of(config, documents, step)
    places = step * config.batch_size .+ (0:config.batch_size-1)
    return [documents[place%length(documents)+1] for place in places]
end

# ---------------------------------------------------------------- The answer

# Julia writes as many digits as give back the same Float64.
put(label, numbers) = println(label, " ", join(numbers, " "))
put(label, matrix::AbstractMatrix) = put(label, vec(permutedims(matrix))) # row by row

function put_training(model, documents, start, steps)
    losses = Float64[]
    for s in 1:steps
        step = start + s - 1
        push!(losses, train_step(model, batch_of(model.config, documents, step), step))
        s <= 3 || s == 20 || continue
        for w in model.weights
            put("after:$s:weights:$(w.name)", w.data)
            put("after:$s:first_moment:$(w.name)", w.first_moment)
            put("after:$s:second_moment:$(w.name)", w.second_moment)
        end
    end
    put("losses", losses)
end

function answer()
    config = read_config()
    vocab_size = value(Int, "vocab_size")
    documents = [read_document(config) for _ in 1:value(Int, "documents")]
    start = value(Int, "step")
    model = Model(config, vocab_size, read_weights(config))
    steps = value(Int, "steps")
    prompt = list(Int, "prompt")
    count = value(Int, "count")
    uniforms = list(Float64, "uniforms")
    seed = list(UInt32, "seed")
    order = collect(0:value(Int, "shuffle")-1)

    why = isempty(LEVELS) ? "not written yet" : declines(model)
    if why != ""
        println("declined ", why)
        return
    end
    put("levels", LEVELS)
    put("dtype", [DTYPE])
    if "sampling" in LEVELS
        uniform() = popfirst!(uniforms)
        for _ in 1:count
            put("name", sample(model, prompt, uniform))
        end
    end
    batch = batch_of(config, documents, start)
    if steps > 0 && "forward" in LEVELS
        println("logits")
        for document in batch
            put("", forward(model, document[1:end-1])) # the last token is a target only
        end
        put("loss", [loss(model, batch)])
    end
    if steps > 0 && "gradients" in LEVELS
        gradients(model, batch)
        for w in model.weights
            put("gradient:$(w.name)", w.grad)
        end
    end
    if steps > 0 && "training" in LEVELS
        put_training(model, documents, start, steps)
    end
    if !isempty(seed) && "stream" in LEVELS
        stream(model, seed, order)
        put("shuffled", order)
        for w in model.weights
            put("initial:$(w.name)", w.data)
        end
    end
end

try
    answer()
catch e
    e isa ErrorException || rethrow()
    println(stderr, "error: ", e.msg)
    exit(2)
end
