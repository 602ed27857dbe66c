// The arguments of a query: an example for a type, and whether a text is JSON of that type.
import { isNoFinite, parse, stringify } from "./json";
import { parseType, type RustType } from "./rust-type";

const LISTS = new Set(["[]", "Vec", "VecDeque", "HashSet", "BTreeSet", "SmallVec"]);
const INTEGER = /^([ui])(8|16|32|64|128|size)$/;

/** An example in JSON. */
export function example(type: string): string {
  const parsed = parseType(type);
  return parsed ? JSON.stringify(exampleOf(parsed)) : "null";
}

function exampleOf(type: RustType): unknown {
  if (type.name === "text" || type.name === "char") return type.name === "char" ? "a" : "";
  if (type.name === "bool") return false;
  if (INTEGER.test(type.name)) return 10;
  if (type.name === "f32" || type.name === "f64") return 1.5;
  if (type.name === "()") return type.of.length === 0 ? null : type.of.map(exampleOf);
  if (LISTS.has(type.name) && type.of[0]) return [exampleOf(type.of[0])];
  return type.name === "Option" ? null : {};
}

/** What is wrong with these arguments, in words; null if nothing is known to be. */
export function problemOf(text: string, type: string): string | null {
  let value: unknown;
  try {
    value = parse(text);
  } catch (why) {
    if (text.trim() === "") return "Arguments are missing. Without arguments, write null.";
    const quoted = parseType(type)?.name === "text" ? ` A text stands in quotes: ${JSON.stringify(text)}.` : "";
    return `This is not JSON: ${why instanceof Error ? why.message : String(why)}.${quoted}`;
  }
  const parsed = parseType(type);
  return parsed ? check(value, parsed, "the argument") : null;
}

function check(value: unknown, type: RustType, what: string): string | null {
  const wrong = (wanted: string): string => `${capital(what)} must be ${wanted}, and is ${named(value)}.`;
  if (type.name === "text") return typeof value === "string" ? null : wrong("a text");
  if (type.name === "char") return typeof value === "string" && [...value].length === 1 ? null : wrong("one character");
  if (type.name === "bool") return typeof value === "boolean" ? null : wrong("true or false");
  if (type.name === "f32" || type.name === "f64") return typeof value === "number" || typeof value === "bigint" || isNoFinite(value) ? null : wrong("a number");
  const integer = INTEGER.exec(type.name);
  if (integer) return checkInteger(value, integer[1] === "u", Number(integer[2]) || 64, wrong);
  if (type.name === "Option") return value === null || !type.of[0] ? null : check(value, type.of[0], what);
  if (type.name === "()") return checkTuple(value, type.of, what, wrong);
  if (LISTS.has(type.name)) {
    if (!Array.isArray(value)) return wrong("a list");
    const of = type.of[0];
    return of ? firstProblem(value.map((one, index) => check(one, of, `item ${index + 1} of ${what}`))) : null;
  }
  return null;
}

function checkInteger(value: unknown, unsigned: boolean, bits: number, wrong: (wanted: string) => string): string | null {
  if (typeof value !== "bigint" && !Number.isInteger(value)) return wrong("a whole number");
  const whole = BigInt(value as number | bigint);
  if (unsigned && whole < 0n) return wrong("0 or more");
  const most = 2n ** BigInt(unsigned ? bits : bits - 1);
  return whole >= most || whole < -most ? wrong(`a whole number of ${bits} bits`) : null;
}

function checkTuple(value: unknown, of: RustType[], what: string, wrong: (wanted: string) => string): string | null {
  if (of.length === 0) return value === null ? null : wrong("null: this query takes no arguments");
  if (!Array.isArray(value)) return wrong(`a list of ${of.length}`);
  if (value.length !== of.length) return `${capital(what)} must be a list of ${of.length}, and has ${value.length}.`;
  return firstProblem(of.map((one, index) => check(value[index], one, `argument ${index + 1}`)));
}

const firstProblem = (problems: (string | null)[]): string | null => problems.find((problem) => problem !== null) ?? null;

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function named(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return typeof value === "string" ? "a text" : stringify(value);
}

/** A command that asks the same. */
export function curlOf(origin: string, name: string, text: string, withToken: boolean): string {
  const quote = (part: string): string => `'${part.replaceAll("'", "'\\''")}'`;
  const token = withToken ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl${token} -X POST ${quote(`${origin}/v1/query/${encodeURIComponent(name)}`)} -d ${quote(text)}`;
}
