// Rust types as the server names them: shortened for reading, and taken apart to check arguments against them.

/** A type: its last name and its parameters. Tuples are named "()", slices and arrays "[]". */
export interface RustType {
  name: string;
  of: RustType[];
}

const TEXTS = new Set(["CompactString", "String", "str", "Str"]);

/** "(compact_str::CompactString, u64)" → "(text, u64)". */
export function shorten(type: string): string {
  return type
    .replace(/&(?:'\w+\s+)?(?:mut\s+)?/g, "")
    .replace(/(?:[A-Za-z_]\w*::)+(?=[A-Za-z_])/g, "")
    .replace(/[A-Za-z_]\w*/g, (name) => (TEXTS.has(name) ? "text" : name));
}

/** The type's parts; null if it is not understood. */
export function parseType(type: string): RustType | null {
  const tokens = shorten(type).match(/[A-Za-z_]\w*|\d+|[()<>,[\];]/g) ?? [];
  let at = 0;
  const list = (end: string): RustType[] | null => {
    const of: RustType[] = [];
    while (tokens[at] !== end) {
      const one = parse();
      if (!one) return null;
      of.push(one);
      if (tokens[at] === ",") at += 1;
      else if (tokens[at] !== end) return null;
    }
    at += 1;
    return of;
  };
  const parse = (): RustType | null => {
    const token = tokens[at++];
    if (token === "(") {
      const of = list(")");
      return of && { name: "()", of };
    }
    if (token === "[") {
      const one = parse();
      while (at < tokens.length && tokens[at] !== "]") at += 1;
      at += 1;
      return one && { name: "[]", of: [one] };
    }
    if (!token || !/^[A-Za-z_]/.test(token)) return null;
    if (tokens[at] !== "<") return { name: token, of: [] };
    at += 1;
    const of = list(">");
    return of && { name: token, of };
  };
  const whole = parse();
  return whole && at === tokens.length ? whole : null;
}

export function isText(type: string): boolean {
  return shorten(type) === "text";
}
