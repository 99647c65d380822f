// The random stream (S1.2): CPython's `random.Random`. random(), getrandbits() and shuffle() have the
// same bits. gauss() may differ in the last bit, where JavaScript's log, cos and sin round otherwise.

const N = 624;
const M = 397;

/** The 32-bit words of a seed, lowest first (S1.2). */
export function seedWords(seed: bigint): number[] {
  let rest = seed < 0n ? -seed : seed;
  const words: number[] = [];
  do {
    words.push(Number(rest & 0xffffffffn));
    rest >>= 32n;
  } while (rest);
  return words;
}

/** The Mersenne Twister MT19937, seeded by `init_by_array`, with Python's methods. */
export class Random {
  private readonly state = new Uint32Array(N);
  private index = N;
  private spare: number | null = null; // the second number of a pair of gauss()

  constructor(seed: bigint | number) {
    const words = seedWords(BigInt(seed));
    const s = this.state;
    s[0] = 19650218;
    for (let i = 1; i < N; i++) {
      s[i] = Math.imul(1812433253, s[i - 1]! ^ (s[i - 1]! >>> 30)) + i;
    }
    let i = 1;
    let j = 0;
    for (let k = Math.max(N, words.length); k > 0; k--) {
      s[i] = (s[i]! ^ Math.imul(s[i - 1]! ^ (s[i - 1]! >>> 30), 1664525)) + words[j]! + j;
      i++;
      j++;
      if (i >= N) {
        s[0] = s[N - 1]!;
        i = 1;
      }
      if (j >= words.length) j = 0;
    }
    for (let k = N - 1; k > 0; k--) {
      s[i] = (s[i]! ^ Math.imul(s[i - 1]! ^ (s[i - 1]! >>> 30), 1566083941)) - i;
      i++;
      if (i >= N) {
        s[0] = s[N - 1]!;
        i = 1;
      }
    }
    s[0] = 0x80000000;
  }

  /** The next 32-bit output. */
  private next(): number {
    const s = this.state;
    if (this.index >= N) {
      for (let k = 0; k < N; k++) {
        const y = (s[k]! & 0x80000000) | (s[(k + 1) % N]! & 0x7fffffff);
        s[k] = s[(k + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.index = 0;
    }
    let y = s[this.index++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  /** A uniform number from [0, 1), of 53 bits. */
  random(): number {
    const a = this.next() >>> 5;
    const b = this.next() >>> 6;
    return (a * 67108864 + b) / 9007199254740992;
  }

  /** The top `bits` bits of the next output; 1 to 32 of them. */
  getrandbits(bits: number): number {
    return this.next() >>> (32 - bits);
  }

  /** Shuffle in place (S1.3). */
  shuffle<T>(items: T[]): void {
    for (let i = items.length - 1; i > 0; i--) {
      const bits = 32 - Math.clz32(i + 1);
      let j = this.getrandbits(bits);
      while (j > i) j = this.getrandbits(bits);
      const item = items[i]!;
      items[i] = items[j]!;
      items[j] = item;
    }
  }

  /** A standard normal number times sigma (S3.4). They are made in pairs. */
  gauss(sigma: number): number {
    let z = this.spare;
    this.spare = null;
    if (z === null) {
      const angle = this.random() * (2 * Math.PI);
      const radius = Math.sqrt(-2 * Math.log(1 - this.random()));
      z = Math.cos(angle) * radius;
      this.spare = Math.sin(angle) * radius;
    }
    return z * sigma;
  }

  /** A stream that continues from such a state. */
  static fromState([, numbers, spare]: [number, number[], number | null]): Random {
    const random = new Random(0);
    random.state.set(numbers.slice(0, N));
    random.index = numbers[N]!;
    random.spare = spare;
    return random;
  }

  /** Python's `getstate()`: the format's number, 624 words and the index, and gauss's spare. */
  getstate(): [number, number[], number | null] {
    return [3, [...this.state, this.index], this.spare];
  }
}

/** The uniforms of a stream by their place, 0 the first after training. */
export class Uniforms {
  private readonly drawn: number[] = [];
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  at(place: number): number {
    while (this.drawn.length <= place) this.drawn.push(this.random.random());
    return this.drawn[place]!;
  }
}
