// Whether a result can be shown as a table, and with which columns.

export interface Rows {
  columns: string[];
  rows: unknown[][];
}

/** A list of lists or of objects as rows; a list of single values as one column; null for anything else. */
export function asTable(result: unknown): Rows | null {
  if (!Array.isArray(result) || result.length === 0) return null;
  if (result.every(Array.isArray)) {
    const flat = result.map(flatten);
    const width = Math.max(...flat.slice(0, 1000).map((row) => row.length));
    return { columns: Array.from({ length: width }, (_, index) => String(index + 1)), rows: flat };
  }
  if (result.every((row) => row !== null && typeof row === "object" && !Array.isArray(row))) {
    const columns = [...new Set(result.slice(0, 1000).flatMap((row) => Object.keys(row as object)))];
    return { columns, rows: result.map((row) => columns.map((column) => (row as Record<string, unknown>)[column])) };
  }
  return result.every((row) => row === null || typeof row !== "object") ? { columns: ["value"], rows: result.map((row) => [row]) } : null;
}

/** ["a", [1, 2]] → ["a", 1, 2]: tuples within tuples become columns. */
function flatten(row: unknown[]): unknown[] {
  return row.flatMap((cell) => (Array.isArray(cell) && cell.every((one) => one === null || typeof one !== "object") ? cell : [cell]));
}
