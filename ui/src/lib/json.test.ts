// Whole numbers that a number cannot hold, from the server's text to what is sent back.
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { problemOf } from "./arguments";
import { count } from "./format";
import { hasLongNumbers, parse, stringify } from "./json";
import { textOf } from "../parts/value";

/** Node.js 20 tells the source of a number with a flag only, and in a new realm. */
beforeAll(async () => {
  const load = async <T>(name: string): Promise<T> => (await import(name)) as T;
  const { setFlagsFromString } = await load<{ setFlagsFromString: (flag: string) => void }>("node:v8");
  const { runInNewContext } = await load<{ runInNewContext: (code: string) => JSON }>("node:vm");
  setFlagsFromString("--harmony-json-parse-with-source");
  vi.stubGlobal("JSON", runInNewContext("JSON"));
});
afterAll(() => vi.unstubAllGlobals());

describe("JSON", () => {
  test.each([
    ["18446744073709551615", 18446744073709551615n],
    ["-9223372036854775808", -9223372036854775808n],
    ["340282366920938463463374607431768211455", 340282366920938463463374607431768211455n],
    ["-170141183460469231731687303715884105728", -170141183460469231731687303715884105728n],
    ["-0.0", -0],
    ['"NaN"', "NaN"],
    ["9007199254740993", 9007199254740993n],
    ["9007199254740991", 9007199254740991],
    ["17", 17],
    ["0.30000000000000004", 0.30000000000000004],
    ["1.2345678901234567e20", 1.2345678901234567e20],
    ['"18446744073709551615"', "18446744073709551615"],
    ["null", null],
  ])("%s is read as what it is, and written the same", (text, value) => {
    expect(parse(text)).toBe(value);
    expect(stringify(parse(text))).toBe(text.replace("1.2345678901234567e20", "123456789012345670000"));
  });
  test("holds them at any depth", () => {
    const text = '{"next":[18446744073709551614,"a"],"rows":[{"key":18446744073709551613,"value":1}]}';
    expect(stringify(parse(text))).toBe(text);
    expect(stringify(parse("[18446744073709551615]"), 2)).toBe("[\n  18446744073709551615\n]");
  });
  test("is read the quick way if no number needs more", () => {
    expect(['{"at":1442018820000,"rate":0.12345678901234567}', "[1234567890123456]", "-1234567890123456"].map(hasLongNumbers)).toEqual([false, true, true]);
  });
  test("is shown as it was sent", () => {
    expect(['"NaN"', '"-Infinity"', "-0.0", "null", "[-0.0,18446744073709551626]"].map((text) => textOf(parse(text)))).toEqual(["NaN", "-Infinity", "-0.0", "null", "[-0.0,18446744073709551626]"]);
  });
  test("of what JSON does not have is no text", () => expect(stringify(undefined)).toBe(""));
});

describe("such numbers", () => {
  test("are counted out in full", () => expect(count(18446744073709551615n)).toBe("18,446,744,073,709,551,615"));
  test.each([
    ["18446744073709551615", "u64", null],
    ["18446744073709551616", "u64", "64 bits"],
    ["-9223372036854775808", "i64", null],
    ["9223372036854775808", "i64", "64 bits"],
    ["340282366920938463463374607431768211455", "u128", null],
    ["340282366920938463463374607431768211456", "u128", "128 bits"],
    ["-170141183460469231731687303715884105728", "i128", null],
    ["-170141183460469231731687303715884105729", "i128", "128 bits"],
    ['"-Infinity"', "f64", null],
    ['["NaN", 1]', "(f32, core::option::Option<f64>)", null],
    ['"nan"', "f64", "must be a number"],
    ['"NaN"', "u64", "a whole number"],
    ["18446744073709551616", "f64", null],
    ["18446744073709551616", "bool", "is 18446744073709551616"],
  ])("%s as %s", (text, type, problem) => {
    if (problem === null) expect(problemOf(text, type)).toBeNull();
    else expect(problemOf(text, type)).toContain(problem);
  });
});

test("a browser that does not tell the source still reads and writes", () => {
  const native = JSON;
  const parsed = (text: string, reviver?: (key: string, value: unknown) => unknown): unknown => native.parse(text, reviver && ((key, value) => reviver(key, value)));
  vi.stubGlobal("JSON", { parse: parsed, stringify: native.stringify });
  expect([parse("[18446744073709551615]"), stringify([1n])]).toEqual([[18446744073709552000], '["1"]']);
  vi.stubGlobal("JSON", native);
});
