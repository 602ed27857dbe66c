// Rows of numbers in columns, the newest so many: what is older gives its place to what is newer, so memory does not grow.

export class Ring<Column extends string> {
  private readonly columns: Map<Column, Float64Array>;
  private first = 0;
  private used = 0;

  constructor(
    names: readonly Column[],
    readonly capacity: number,
  ) {
    this.columns = new Map(names.map((name) => [name, new Float64Array(capacity)]));
  }

  get length(): number {
    return this.used;
  }

  /** A value that the row does not have is NaN. */
  push(row: Partial<Record<Column, number | null>>): void {
    const place = (this.first + this.used) % this.capacity;
    for (const [name, values] of this.columns) values[place] = row[name] ?? NaN;
    if (this.used < this.capacity) this.used += 1;
    else this.first = (this.first + 1) % this.capacity;
  }

  /** By position, the oldest first; NaN if there is none. */
  get(column: Column, index: number): number {
    if (index < 0 || index >= this.used) return NaN;
    return this.columns.get(column)?.[(this.first + index) % this.capacity] ?? NaN;
  }

  /** Makes a value larger, if there is one there that is smaller. */
  raise(column: Column, index: number, value: number): void {
    const values = this.columns.get(column);
    if (!values || index < 0 || index >= this.used) return;
    const place = (this.first + index) % this.capacity;
    values[place] = Math.max(values[place] ?? NaN, value);
  }

  /** Makes all values of a column that are larger than this one the same as it. */
  cap(column: Column, most: number): void {
    const values = this.columns.get(column);
    for (let place = 0; values && place < this.used; place++) values[place] = Math.min(values[place] ?? NaN, most);
  }

  /** A whole row, by position. */
  row(index: number): Record<Column, number> {
    return Object.fromEntries([...this.columns.keys()].map((name) => [name, this.get(name, index)])) as Record<Column, number>;
  }

  last(column: Column): number {
    return this.get(column, this.used - 1);
  }

  /** A part of a column, with null for what is missing. */
  series(column: Column, from = 0, to = this.used): (number | null)[] {
    const values: (number | null)[] = [];
    for (let index = Math.max(0, from); index < Math.min(to, this.used); index++) {
      const value = this.get(column, index);
      values.push(Number.isNaN(value) ? null : value);
    }
    return values;
  }

  /** The first position whose value is at least this one, in a column that only grows. */
  lowerBound(column: Column, value: number): number {
    let [low, high] = [0, this.used];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.get(column, middle) < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  clear(): void {
    this.first = 0;
    this.used = 0;
  }
}
