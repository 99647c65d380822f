// microGPT in Go: where a port begins. README.md says how to build and verify it.
//
// It reads a case as JSON from standard input and writes its answer as JSON to standard
// output; spec/README.md describes both. Fill in the functions under "To be filled" one
// after the other, and add each level to levels as soon as it is written. A comment such
// as S6.3 names a rule of SPEC.md.
//
// n targets of a document, V vocabulary

package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
)

// What is written so far: "forward", "gradients", "training", "sampling", "stream".
var levels = []string{}

const dtype = "float64" // or "float32": it selects the tolerances

func die(why any) {
	fmt.Fprintln(os.Stderr, "error:", why)
	os.Exit(2)
}

func notWritten(name string) {
	die(name + " is not written yet: take its level out of levels")
}

// ---------------------------------------------------------------- The model

type Config struct {
	NEmbd        int     `json:"n_embd"`
	NHead        int     `json:"n_head"`
	NLayer       int     `json:"n_layer"`
	BlockSize    int     `json:"block_size"`
	InitStd      float64 `json:"init_std"`
	ZeroInit     bool    `json:"zero_init"`
	ReluPower    int     `json:"relu_power"`
	LearningRate float64 `json:"learning_rate"`
	Beta1        float64 `json:"beta1"`
	Beta2        float64 `json:"beta2"`
	Schedule     string  `json:"schedule"` // "cosine" or "linear"
	Steps        int     `json:"steps"`    // S of S10
	BatchSize    int     `json:"batch_size"`
	Temperature  float64 `json:"temperature"`
}

// Weights has the names of S3.1; each value is a list of rows.
type Weights map[string][][]float64

// Model is what training carries (S13).
type Model struct {
	Config     Config  `json:"-"`
	Vocabulary int     `json:"-"` // letters and BOS; BOS is the last token
	Weights    Weights `json:"weights"`
	First      Weights `json:"first_moment"`
	Second     Weights `json:"second_moment"`
}

// ---------------------------------------------------------------- To be filled
//
// A batch is a list of documents. A document has n + 1 tokens, cut to the block: the first
// n are the inputs, the last n the targets.

// Why this port has no answer to a case, or "". For instance:
// if model.Config.NLayer != 1 { return "it has one layer only" }
func declines(model *Model) string {
	return ""
}

// Level forward: the logits of the next token after each position of one document (S4 to
// S7): n rows of V numbers.
func forward(model *Model, inputs []int) [][]float64 {
	notWritten("forward")
	return nil
}

// Level forward: the mean loss of all targets of a batch (S8).
func loss(model *Model, batch [][]int) float64 {
	notWritten("loss")
	return 0
}

// Level gradients: the gradient of that loss for each weight.
func gradients(model *Model, batch [][]int) Weights {
	notWritten("gradients")
	return nil
}

// Level training: the loss of a batch; then one step of Adam (S9) with the learning rate
// of that step (S10) changes the weights and both moments. step counts from 0.
func trainStep(model *Model, batch [][]int, step int) float64 {
	notWritten("trainStep")
	return 0
}

// Level sampling: one name (S11) as tokens without BOS, those of the prompt first.
// uniform() is the next uniform number of the case (S11.3).
func sample(model *Model, prompt []int, uniform func() float64) []int {
	notWritten("sample")
	return nil
}

// Level stream: from the seed, given as 32-bit words (lowest first), shuffle the documents
// in place (S1.3). Then return the initial weights (S3).
func stream(model *Model, seed []uint32, documents []string) Weights {
	notWritten("stream")
	return nil
}

// ---------------------------------------------------------------- The case

type Case struct {
	ID       string    `json:"id"`
	Config   Config    `json:"config"`
	Letters  string    `json:"letters"`
	Tokens   [][]int   `json:"tokens"`
	Steps    int       `json:"steps"`
	Prompt   string    `json:"prompt"`
	Count    int       `json:"count"`
	Uniforms []float64 `json:"uniforms"`
	Start    struct {
		Model
		Step int `json:"step"`
	} `json:"start"`
	Stream *struct {
		Seed      json.Number `json:"seed"` // it may have more than 64 bits
		Documents []string    `json:"documents"`
	} `json:"stream"`
}

// The documents of a step (S1.4), each cut to the block (S2.3).
func (c *Case) batch(step int) [][]int {
	batch := make([][]int, c.Config.BatchSize)
	for b := range batch {
		document := c.Tokens[(step*len(batch)+b)%len(c.Tokens)]
		if len(document) > c.Config.BlockSize+1 {
			document = document[:c.Config.BlockSize+1]
		}
		batch[b] = document
	}
	return batch
}

// The seed's 32-bit words, lowest first (S1.2).
func (c *Case) seed() []uint32 {
	seed, ok := new(big.Int).SetString(c.Stream.Seed.String(), 10)
	if !ok {
		die("the seed must be a whole number, not " + c.Stream.Seed.String())
	}
	words := []uint32{}
	for len(words) == 0 || seed.Sign() > 0 {
		words = append(words, uint32(seed.Uint64())) // the lowest 32 bits
		seed.Rsh(seed, 32)
	}
	return words
}

// ---------------------------------------------------------------- The answer

func has(level string) bool {
	for _, name := range levels {
		if name == level {
			return true
		}
	}
	return false
}

func names(c *Case, model *Model) []string {
	letters := []rune(c.Letters) // letters are code points (S2.1)
	token := map[rune]int{}
	for i, letter := range letters {
		token[letter] = i
	}
	prompt := []int{}
	for _, letter := range c.Prompt {
		prompt = append(prompt, token[letter])
	}
	used := 0
	uniform := func() float64 {
		if used == len(c.Uniforms) {
			die("the case has no more uniforms: S11.5")
		}
		used++
		return c.Uniforms[used-1]
	}
	found := make([]string, c.Count)
	for i := range found {
		for _, t := range sample(model, prompt, uniform) {
			found[i] += string(letters[t])
		}
	}
	return found
}

func training(c *Case, model *Model) ([]float64, map[string]json.RawMessage) {
	losses, after := []float64{}, map[string]json.RawMessage{}
	for s := 1; s <= c.Steps; s++ {
		step := c.Start.Step + s - 1
		losses = append(losses, trainStep(model, c.batch(step), step))
		if s <= 3 || s == 20 { // as text now, because the next step changes the numbers
			after[fmt.Sprint(s)] = text(model)
		}
	}
	return losses, after
}

func text(x any) []byte {
	out, err := json.Marshal(x)
	if err != nil { // a number that is not finite, for instance
		die(err)
	}
	return out
}

func answer(c *Case, model *Model) map[string]any {
	why := "not written yet"
	if len(levels) > 0 {
		why = declines(model)
	}
	if why != "" {
		return map[string]any{"id": c.ID, "declined": why}
	}
	found := map[string]any{"id": c.ID, "levels": levels, "dtype": dtype}
	batch := c.batch(c.Start.Step)
	if has("sampling") {
		found["names"] = names(c, model)
	}
	if c.Steps > 0 && has("forward") {
		logits := [][][]float64{}
		for _, document := range batch {
			logits = append(logits, forward(model, document[:len(document)-1]))
		}
		found["logits"], found["loss"] = logits, loss(model, batch)
	}
	if c.Steps > 0 && has("gradients") {
		found["gradients"] = json.RawMessage(text(gradients(model, batch)))
	}
	if c.Stream != nil && has("stream") {
		shuffled := append([]string{}, c.Stream.Documents...)
		weights := stream(model, c.seed(), shuffled)
		found["stream"] = map[string]any{"shuffled": shuffled, "weights": weights}
	}
	if c.Steps > 0 && has("training") { // changes the weights
		found["losses"], found["after"] = training(c, model)
	}
	return found
}

func main() {
	var c Case
	if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
		die(err)
	}
	model := &c.Start.Model
	model.Config = c.Config
	model.Vocabulary = len([]rune(c.Letters)) + 1
	os.Stdout.Write(text(answer(&c, model)))
}
