(* microGPT in OCaml: where a port begins. README.md says how to build and verify it.

   It reads a case as words and numbers from standard input and writes its answer in the
   same way. bridge.py makes these from the JSON of the cases, and describes both. Fill in
   the functions under "To be filled" one after the other, and add each level to levels as
   soon as it is written. A comment such as S6.3 names a rule of SPEC.md.

   n targets of a document, V vocab_size *)

(* What is written so far: "forward"; "gradients"; "training"; "sampling"; "stream". *)
let levels : string list = []
let dtype = "float64" (* or "float32": it selects the tolerances *)

let not_written name =
  failwith (name ^ " is not written yet: take its level out of levels")

(* ---------------------------------------------------------------- The model *)

type config = {
  n_embd : int;
  n_head : int;
  n_layer : int;
  block_size : int;
  init_std : float;
  zero_init : int; (* 0 or 1 *)
  relu_power : int;
  learning_rate : float;
  beta1 : float;
  beta2 : float;
  linear : int; (* the schedule: 1 linear, 0 cosine *)
  total_steps : int; (* S of S10 *)
  batch_size : int;
  temperature : float;
}
[@@warning "-69"] (* fields that nothing reads yet *)

type weight = {
  name : string; (* S3.1 *)
  rows : int;
  columns : int;
  data : float array; (* row by row, as are the other three *)
  grad : float array;
  mutable first_moment : float array;
  mutable second_moment : float array;
}
[@@warning "-69"]

type model = {
  config : config;
  vocab_size : int; (* BOS is the last token *)
  weights : weight array; (* in the order of S3.2: wte wpe lm_head layer0.attn_wq … *)
}
[@@warning "-69"]

(* ---------------------------------------------------------------- To be filled

   A batch is an array of documents. A document has n + 1 tokens, cut to the block: the
   first n are the inputs, the last n the targets. *)

(* Why this port has no answer to a case, or "". For instance:
   if model.config.n_layer <> 1 then "it has one layer only" else "" *)
let declines (_model : model) = ""

(* Level forward: the logits of the next token after each position of one document (S4 to
   S7): n rows of V numbers, one after the other. *)
let forward (_model : model) (_inputs : int array) : float array =
  not_written "forward"

(* Level forward: the mean loss of all targets of a batch (S8). *)
let loss (_model : model) (_batch : int array array) : float =
  not_written "loss"

(* Level gradients: the gradient of that loss, into the grad of each weight. *)
let gradients (_model : model) (_batch : int array array) : unit =
  not_written "gradients"

(* Level training: the loss of a batch; then one step of Adam (S9) with the learning rate
   of that step (S10) changes data and both moments. step counts from 0. *)
let train_step (_model : model) (_batch : int array array) (_step : int) : float =
  not_written "train_step"

(* Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
   uniform () is the next uniform number of the case (S11.3). *)
let sample (_model : model) (_prompt : int array) (_uniform : unit -> float) : int array =
  not_written "sample"

(* Level stream: from the seed, given as 32-bit words, shuffle the documents' numbers
   0, 1, … (S1.3), then draw the initial weights into the data of each weight (S3). *)
let stream (_model : model) (_seed : int array) (_order : int array) : unit =
  not_written "stream"

(* ---------------------------------------------------------------- The case *)

let next () = Scanf.scanf " %s" (fun text -> text)

(* The next word, which must begin with [wanted]; returns what follows that: a name. *)
let word wanted =
  let text = next () and size = String.length wanted in
  if String.length text < size || String.sub text 0 size <> wanted then
    failwith (Printf.sprintf "the case has %S where %s must be" text wanted);
  String.sub text size (String.length text - size)

let int () = int_of_string (next ())
let float () = float_of_string (next ())

let whole name =
  ignore (word name);
  int ()

let real name =
  ignore (word name);
  float ()

let ints count = Array.init count (fun _ -> int ())
let floats count = Array.init count (fun _ -> float ())

let read_config () =
  let n_embd = whole "n_embd" in
  let n_head = whole "n_head" in
  let n_layer = whole "n_layer" in
  let block_size = whole "block_size" in
  let init_std = real "init_std" in
  let zero_init = whole "zero_init" in
  let relu_power = whole "relu_power" in
  let learning_rate = real "learning_rate" in
  let beta1 = real "beta1" in
  let beta2 = real "beta2" in
  let linear = whole "linear" in
  let total_steps = whole "total_steps" in
  let batch_size = whole "batch_size" in
  let temperature = real "temperature" in
  { n_embd; n_head; n_layer; block_size; init_std; zero_init; relu_power;
    learning_rate; beta1; beta2; linear; total_steps; batch_size; temperature }

let read_matrix part =
  let name = word part in
  let rows = int () in
  let columns = int () in
  (name, rows, columns, floats (rows * columns))

let read_weight () =
  let name, rows, columns, data = read_matrix "weights:" in
  let grad = Array.make (rows * columns) 0. in
  { name; rows; columns; data; grad; first_moment = [||]; second_moment = [||] }

let read_weights config =
  let weights = Array.init (3 + 6 * config.n_layer) (fun _ -> read_weight ()) in
  let moment part =
    let _, _, _, numbers = read_matrix part in
    numbers
  in
  Array.iter (fun w -> w.first_moment <- moment "first_moment:") weights;
  Array.iter (fun w -> w.second_moment <- moment "second_moment:") weights;
  weights

let read_document config =
  let tokens = ints (whole "document") in
  Array.sub tokens 0 (min (Array.length tokens) (config.block_size + 1)) (* S2.3 *)

(* The documents of a step (S1.4). *)
let batch_of config documents step =
  Array.init config.batch_size (fun b ->
      documents.((step * config.batch_size + b) mod Array.length documents))

(* ---------------------------------------------------------------- The answer *)

let has level = List.mem level levels

(* 17 digits give back the same float. *)
let put label numbers =
  print_string label;
  Array.iter (Printf.printf " %.17g") numbers;
  print_newline ()

let put_ints label numbers =
  print_string label;
  Array.iter (Printf.printf " %d") numbers;
  print_newline ()

let put_training model documents start steps =
  let one s =
    let step = start + s - 1 in
    let loss = train_step model (batch_of model.config documents step) step in
    if s <= 3 || s = 20 then
      Array.iter
        (fun w ->
          let label part = Printf.sprintf "after:%d:%s:%s" s part w.name in
          put (label "weights") w.data;
          put (label "first_moment") w.first_moment;
          put (label "second_moment") w.second_moment)
        model.weights;
    loss
  in
  put "losses" (Array.init steps (fun i -> one (i + 1)))

let () =
  try
    let config = read_config () in
    let vocab_size = whole "vocab_size" in
    let documents = Array.init (whole "documents") (fun _ -> read_document config) in
    let start = whole "step" in
    let model = { config; vocab_size; weights = read_weights config } in
    let steps = whole "steps" in
    let prompt = ints (whole "prompt") in
    let count = whole "count" in
    let uniforms = floats (whole "uniforms") in
    let seed = ints (whole "seed") in
    let order = Array.init (whole "shuffle") (fun i -> i) in
    let used = ref 0 in
    let uniform () =
      if !used = Array.length uniforms then failwith "the case has no more uniforms: S11.5";
      incr used;
      uniforms.(!used - 1)
    in
    let why = if levels = [] then "not written yet" else declines model in
    if why <> "" then print_endline ("declined " ^ why)
    else begin
      print_endline ("levels " ^ String.concat " " levels);
      print_endline ("dtype " ^ dtype);
      if has "sampling" then
        for _ = 1 to count do
          put_ints "name" (sample model prompt uniform)
        done;
      let batch = batch_of config documents start in
      if steps > 0 && has "forward" then begin
        put "logits" [||];
        (* the last token is a target only *)
        Array.iter
          (fun document ->
            put "" (forward model (Array.sub document 0 (Array.length document - 1))))
          batch;
        put "loss" [| loss model batch |]
      end;
      if steps > 0 && has "gradients" then begin
        gradients model batch;
        Array.iter (fun w -> put ("gradient:" ^ w.name) w.grad) model.weights
      end;
      if steps > 0 && has "training" then put_training model documents start steps;
      if seed <> [||] && has "stream" then begin
        stream model seed order;
        put_ints "shuffled" order;
        Array.iter (fun w -> put ("initial:" ^ w.name) w.data) model.weights
      end
    end
  with Failure why ->
    prerr_endline ("error: " ^ why);
    exit 2
