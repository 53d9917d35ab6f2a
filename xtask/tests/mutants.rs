//! The kill table is read as it is written.

use xtask::mutants::tables;

#[test]
fn a_table_becomes_rows_by_the_name_of_its_first_column() {
    let text = "| mutant | smoke | law      | found |\n\
                | a/B    | ok    | no_leak  |     3 |\n\
                \x20   smoke: a remark\n\
                | a/C    | FAILS | SURVIVED |       |\n\
                2 mutants, 1 survived, 1 obvious at first sight\n\
                | law | mutant |\n|---|:--|\n| no_leak | a/B |\n";
    let tables = tables(text);
    let names: Vec<_> = tables.keys().collect();
    assert_eq!(names, ["law", "mutant"]);
    let mutants = &tables["mutant"];
    assert_eq!(mutants.len(), 2, "a remark must not end the table");
    assert_eq!(mutants[0]["found"], 3, "must be a number");
    assert_eq!(mutants[1]["law"], "SURVIVED");
    assert_eq!(tables["law"].len(), 1, "a rule must not be a row");
}
