use crate::home::Home;

#[test]
fn a_benchmark_tells_json_and_leaves_nothing_behind() {
    for door in [&[][..], &["--http"][..]] {
        let home = Home::new();
        let args = [&["bench", "--tasks", "50", "--concurrency", "8", "--repeat", "2", "--json"], door].concat();
        let told = home.run(&args).code(0).json();
        assert_eq!(told["load"]["tasks"], 50);
        assert_eq!(told["rounds"].as_array().unwrap().len(), 2);
        for name in
            ["tasks_per_second", "steps_per_second", "cpu_ms_per_task", "written_bytes_per_task", "resident_bytes"]
        {
            assert!(told["median"][name].as_f64().is_some_and(|value| value > 0.0), "{name}: {told}");
        }
        let times = &told["median"]["end_to_end_ms"];
        assert!(times["p50"].as_f64().unwrap() <= times["p99"].as_f64().unwrap());
        let mut left: Vec<_> =
            std::fs::read_dir(home.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["agents", "scripts"]);
    }
}

#[test]
fn a_running_platform_is_measured_from_outside() {
    let home = Home::new();
    home.scripted("quick", "", "turns:\n  - text: Done.\n");
    let dev = home.dev();
    let args = ["bench", "--url", &dev.url, "--agent", "quick", "--tasks", "20", "--repeat", "1", "--concurrency", "4"];
    let ran = home.run(&args).code(0);
    assert!(ran.stdout.contains("tasks/s") && !ran.stdout.contains("CPU"), "{}", ran.stdout);
    dev.stop().code(0);
}
